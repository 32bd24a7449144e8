"""Swin V2-G, 3 billion parameters, with FD's initial weights and windows."""
_base_ = 'swinv2b.py'

student = dict(arch='giant', with_cp=True)
