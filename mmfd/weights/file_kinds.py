"""What a file is that is given for weights, by how it begins."""
import re

START = 512  # bytes of a file that say what it is

# How a file begins -> what it is, and what to do; none of them holds weights
OTHERS = {
    rb'version https://git-lfs':
    'only says where its weights are: run "git lfs pull" in its folder, or '
    'download the file',
    rb'\x93NUMPY|PK\x03\x04.{26}[^\0]*?\.npy(?!/)':
    'is of NumPy, as JAX saves weights, and is not read: take the file for '
    'PyTorch, as timm and transformers publish it',
    rb'\x89HDF':
    'is of HDF5, as Keras saves weights, and is not read: take the file for '
    'PyTorch',
    rb'GGUF':
    'is of llama.cpp, with rounded numbers, and is not read: take the file '
    'for PyTorch',
    rb'\x08[\x01-\x20][\x12\x1a\x22\x2a\x32\x3a]|.{4}TFL3':
    'is a graph of operations, as ONNX, TensorFlow and Core ML have it, and '
    'is not read: take the file for PyTorch that it was made from',
    rb'[\x81-\x8f][\xa1-\xbf]\w\w':
    'is of msgpack, as Flax saves weights, and is not read: take the file for '
    'PyTorch, as timm and transformers publish it',
    rb'\s*[{[]\s*["{]':
    'is a text (JSON), not weights: give the file of weights beside it. What '
    'was downloaded may be an answer about an error: open it and see',
    rb'\x1f\x8b|BZh[1-9]1AY|\xfd7zXZ|\x28\xb5\x2f\xfd|7z\xbc\xaf|Rar!':
    'is compressed: unpack it, and give the file in it',
    rb'.{257}ustar':
    'is a tar archive: unpack it, and give the file in it. If PyTorch saved '
    'it before 2017, load and save it with any later one',
}
WEB_PAGE = ('is a web page, not weights: the download was answered with an '
            'error or login page; download it again')


def is_web_page(start):
    """Whether a file that begins with these bytes is HTML or XML: a text."""
    return start.lstrip(b' \t\r\n\xef\xbb\xbf')[:1] == b'<' and (b'\0'
                                                                 not in start)


def is_safetensors(start):
    """Whether it begins with the length of a JSON object, and that object."""
    return start[8:9] == b'{'


def no_weights(start):
    """What a file is that begins so, and what to do; '' if it may be weights.

    Args:
        start (bytes): of the file, `START` of them.
    """
    if is_web_page(start):
        return WEB_PAGE
    if is_safetensors(start):  # its length may begin as anything does
        return ''
    return next((text for begin, text in OTHERS.items()
                 if re.match(begin, start, re.DOTALL)), '')
