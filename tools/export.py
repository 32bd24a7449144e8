"""Take the student out of a checkpoint, for OpenMMLab or another library."""
from mmfd.commands.export import main

if __name__ == '__main__':
    main()
