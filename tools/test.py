"""Test a checkpoint by the metrics of its config."""
from mmfd.commands.test import main

if __name__ == '__main__':
    main()
