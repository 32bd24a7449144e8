"""Report what distillation did to the features of a network."""
from mmfd.commands.analyze import main

if __name__ == '__main__':
    main()
