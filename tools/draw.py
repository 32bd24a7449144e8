"""Draw what a trained classifier, segmentor or detector says of images."""
from mmfd.commands.draw import main

if __name__ == '__main__':
    main()
