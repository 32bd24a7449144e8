"""The ops that mmseg and mmdet need, for an mmcv without compiled ops."""
custom_imports = dict(
    imports=['mmfd.hosts.mmcv_ops'], allow_failed_imports=False)
