"""How do names and a folder of images become a run, and what is left of it?"""
from mmfd.hosts import log
from mmfd.launch import config_options  # noqa: F401, before the host's models

log.import_silently('mmpretrain')  # which prints what it does without
