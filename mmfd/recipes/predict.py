"""Say of which class images are."""
import os

from mmfd.data.decode import BrokenImage
from mmfd.data.scan import find_images
from mmfd.errors import Refused
from mmfd.recipes.classifier import load_classifier


def predict(model, images, top=5):
    """The most likely classes of images.

    Args:
        model (str | Classifier): file or folder of `finetune`, or what it
            returned.
        images (str | list[str]): files, and folders of them.
        top (int): how many classes of each image.

    Returns:
        list[dict]: for each file its path, `image`, and `classes`, name ->
        probability, the most likely first; `error` in place of these where it
        cannot be read.

    Raises:
        Refused: if there is no such model, or no image, or for less than one
            class.
    """
    if top < 1:
        raise Refused(f'top={top}: one or more is expected')
    if isinstance(images, (str, os.PathLike)):
        images = [images]
    files = [file for path in images for file in _files(os.fspath(path))]
    if isinstance(model, (str, os.PathLike)):
        model = load_classifier(model)
    return [_predict(model, file, top) for file in files]


def _predict(classifier, file, top):
    try:
        likely = classifier(file).sort(descending=True)
    except BrokenImage as error:
        return dict(image=file, error=str(error))
    return dict(
        image=file,
        classes={
            classifier.classes[index]: probability
            for probability, index in zip(likely.values[:top].tolist(),
                                          likely.indices.tolist())
        })


def _files(path):
    """An image file, or those below a folder."""
    if not os.path.exists(path):
        raise Refused(f'there is no image and no folder {path}')
    if not os.path.isdir(path):
        return [path]
    found = find_images(path)
    if not found:
        raise Refused(f'no images in {path}')
    return [os.path.join(path, name) for name in found]
