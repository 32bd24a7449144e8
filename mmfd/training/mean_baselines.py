"""What a prediction that looks at no image would give: means of the target."""
from mmengine.dist import all_gather_object, get_rank, get_world_size


class MeanBaselines:
    """The means of the target over held-out images, and how good they are.

    One image after the other is added and forgotten; what is kept is a sum
    (L, C) in float64, and the targets of at most `images` images, evenly
    spread, since a loss of the mean can only be taken once the mean is known.
    Neither depends on batches or on the number of processes.

    Args:
        images (int): how many targets may be kept, of all processes.
        before (int): images that this process was given and did not count.
    """

    def __init__(self, images=64, before=0):
        self.images = images
        self.added = before  # images that this process was given
        self.latest = None  # what samplers may have added to fill a batch
        self.count, self.total, self.square = 0, 0, 0
        self.kept, self.stride = {}, 1

    def add(self, target, criterion):
        """Add the next image of this process.

        Args:
            target (Tensor): (L, C); None for an image that does not count.
            criterion (callable): the loss of (prediction, target).
        """
        self._take_latest()
        index = self.added * get_world_size() + get_rank()
        self.latest = index, target, criterion
        self.added += 1

    def _take_latest(self):
        if self.latest is None or self.latest[1] is None:
            return
        index, target, self.criterion = self.latest
        double = target.cpu().double()
        self.count += 1
        self.total = self.total + double
        self.square += double.square().mean().item()
        while index >= self.images * self.stride:
            self.stride *= 2
            self.kept = {
                i: kept
                for i, kept in self.kept.items() if i % self.stride == 0
            }
        if index % self.stride == 0:
            self.kept[index] = target.clone()  # not its batch

    def measure(self, size):
        """Compare the means with the target; all processes call it at once.

        Args:
            size (int): images of the data set. What processes were given
                beyond it, for an equal number of images each, is left out.

        Returns:
            dict: nothing for fewer than two images; else

            - loss_of_mean: the loss if each token were the mean over all
              images and tokens;
            - loss_of_positions: the loss if each token were the mean over
              all images at its position. Both losses are of the images that
              are kept;
            - variance: mean squared distance of the target from the mean of
              its position over many other images.
        """
        if self.latest is not None and self.latest[0] < size:
            self._take_latest()
        counts, totals, squares, strides = zip(
            *all_gather_object((self.count, self.total, self.square,
                                self.stride)))
        count = sum(counts)
        if count < 2:
            return {}
        positions = sum(totals) / count  # (L, C)
        mean = positions.mean(0).expand_as(positions)
        losses = {
            index: [
                float(self.criterion(constant.to(kept)[None], kept[None]))
                for constant in (mean, positions)
            ]
            for index, kept in self.kept.items() if index % max(strides) == 0
        }
        losses = {
            index: pair
            for part in all_gather_object(losses)
            for index, pair in part.items()
        }
        pairs = [losses[index] for index in sorted(losses)]
        spread = sum(squares) / count - positions.square().mean().item()
        names = 'loss_of_mean', 'loss_of_positions'
        return dict(
            zip(names, (sum(one) / len(pairs) for one in zip(*pairs))),
            # these images are nearer to their own mean than others would be
            variance=spread * count / (count - 1))
