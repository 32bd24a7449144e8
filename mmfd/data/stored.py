"""Images that are no files of their own but lie in larger ones."""


class StoredImage(str):
    """The path of an image that lies in a larger file: `FILE/NAME`.

    It is shown, logged and sent to other processes as any path is, and read by
    `decode.read`.

    Args:
        path (str): the file and, behind a slash, the name in it.
        file (str): the file.
        place: where it is in it, in the words of its kind of file.
    """

    def __new__(cls, path, file, *place):
        self = super().__new__(cls, path)
        self.file, self.place = file, place
        return self

    def __reduce__(self):
        return type(self), (str(self), self.file, *self.place)

    def content(self, check):
        """The bytes of the image.

        Args:
            check (callable): called with how many there are, before memory is
                taken for them. What it raises is not caught.

        Raises:
            BrokenImage: if the image is not there any more.
            OSError: if the file cannot be read.
        """
        raise NotImplementedError
