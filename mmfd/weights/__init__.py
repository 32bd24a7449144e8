"""Weights in files: in, out, and no code."""
