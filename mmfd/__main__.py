"""`python -m mmfd` is the command `mmfd`."""
from mmfd.commands.console import main

if __name__ == '__main__':
    main()
