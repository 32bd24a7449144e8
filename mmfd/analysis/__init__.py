"""Diagnosis: what distillation did to a representation, of any backbone."""
