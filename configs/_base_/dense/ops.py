"""The ops that mmseg and mmdet want, for an mmcv without compiled ones."""
custom_imports = dict(
    imports=['mmfd.hosts.mmcv_ops'], allow_failed_imports=False)
