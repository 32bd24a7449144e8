"""Bring foreign weights into mm names; nothing in their files is executed."""
from mmfd.commands.convert import main

if __name__ == '__main__':
    main()
