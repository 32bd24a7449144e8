"""Train what a config describes: a distillation, a fine-tuning."""
from mmfd.commands.train import main

if __name__ == '__main__':
    main()
