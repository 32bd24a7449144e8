"""How much memory a file may take for what it holds and describes."""
from mmfd.errors import NotWeights

FREE = 56 << 20  # bytes for a file of any size
SHARE = 4  # bytes more for each byte of the file
JSON_VALUE = 80  # bytes that a number, text, list or dict of JSON takes


class MemoryBudget:
    """Bytes that are left for one file.

    Whoever reads the file spends them before it takes the memory. So a small
    file cannot ask for much, by whatever means, and a large one can.

    Args:
        size (int): of the file, in bytes.
    """

    def __init__(self, size):
        self.left = FREE + SHARE * size

    def spend(self, number):
        """Take bytes away; give them back if the number is negative.

        Raises:
            NotWeights: if fewer are left.
        """
        self.left -= number
        if self.left < 0:
            raise NotWeights('describes what takes many times the memory that '
                             'the file itself does')

    def spend_on_json(self, text):
        """Take away what a JSON text (bytes) and the values in it can take.

        Each value but the first stands behind one of three characters.
        """
        values = sum(map(text.count, (b',', b':', b'[')))
        self.spend(len(text) + JSON_VALUE * values)
