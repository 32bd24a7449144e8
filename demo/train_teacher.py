"""Train the demo's teacher again, and replace its weights and log.

    make demo-teacher

Both files are part of the project: configs/demo/teacher.pth and its log.
"""
import shutil
from pathlib import Path

from mmengine.config import Config
from mmengine.runner import Runner
from runs import DATA

from mmfd.data import toy_images
from mmfd.weights import checkpoints, weight_files

CONFIG = 'configs/demo/simclr_teacher.py'
WEIGHTS, LOG = 'configs/demo/teacher.pth', 'configs/demo/teacher_log.json'


def main():
    toy_images.write(DATA)
    cfg = Config.fromfile(CONFIG)
    cfg.work_dir = 'work_dirs/simclr_teacher'
    runner = Runner.from_cfg(cfg)
    runner.train()
    checkpoints.save(runner.model.backbone.state_dict(), WEIGHTS,
                     dict(kind='mmpretrain SimCLR', source=CONFIG))
    shutil.copy(Path(runner.log_dir, 'vis_data/scalars.json'), LOG)
    print(f'{WEIGHTS}: sha256 {weight_files.sha256(WEIGHTS)}')


if __name__ == '__main__':
    main()
