"""Fine-tune the student that comes with the project, distilled to the end.

    python tools/train.py configs/demo/simclr_fd_finished_shapes.py
"""
_base_ = 'simclr_fd_shapes.py'

source = 'make demo-student writes it'
model = dict(
    backbone=dict(
        init_cfg=dict(
            _delete_=True,
            type='Pretrained',
            checkpoint='{{ fileDirname }}/student.pth')))
