"""FD's Swin V2-L, with the windows of Swin V2-B."""
_base_ = 'swinv2b.py'

student = dict(arch='large')
