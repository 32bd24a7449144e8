"""Distil the demo's student to the end again, and replace its weights and log.

    make demo-student

Both files are part of the project: configs/demo/student.pth and its log. The
run goes on where it was stopped.
"""
import json
import subprocess
import sys

from runs import ROOT, draw_images, lines, train

from mmfd import files

NAME = 'simclr_fd_finished'
WEIGHTS, LOG = 'configs/demo/student.pth', 'configs/demo/student_log.json'
KEPT = ('epoch', 'step', 'lr', 'loss', 'held_out/loss', 'knn/top1')


def main():
    draw_images()
    train(ROOT / f'configs/demo/{NAME}.py', '--resume')
    export = ROOT / 'tools/export.py', f'work_dirs/{NAME}/epoch_40.pth'
    subprocess.run([sys.executable, *export, WEIGHTS], check=True)
    with files.output_file(LOG) as log:
        log.write_text(''.join(
            json.dumps({key: line[key]
                        for key in KEPT if key in line}) + '\n'
            for line in lines(NAME)))
    print(f'{WEIGHTS}: sha256 {files.sha256(WEIGHTS)}')


if __name__ == '__main__':
    main()
