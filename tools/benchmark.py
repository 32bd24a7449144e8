"""Measure a run on this machine: img/s, share of the limit, phases, memory."""
from mmfd.commands.benchmark import main

if __name__ == '__main__':
    main()
