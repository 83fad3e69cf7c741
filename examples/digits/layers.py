"""The tutorial's table: what each layer of a network does over a whole data set, from streamed activations."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import fluoroscope


class Layer:
    """The statistics of the values at one site, gathered batch by batch in float64."""

    def __init__(self, site: str, shape: Sequence[int]) -> None:
        """Takes the path of the site and the shape of what one example leaves there."""
        self.site = site
        """The path of the site."""
        self.units = int(np.prod(shape))
        """How many units the layer has."""
        self.mean = 0.0
        """The mean of all units over all examples."""
        self._count = 0
        self._squares = 0.0  # the sum of the squared distances from the mean
        self._zeros = 0
        self._alive = np.zeros(tuple(shape), bool)

    def add(self, batch: np.ndarray) -> None:
        """Adds the values of a batch, `(batch, ...)`.

        Means and variances of parts are joined as in Chan, Golub and LeVeque, "Updating formulae and a pairwise
        algorithm for computing sample variances" (1979), which stays exact where a sum of squares does not.
        """
        values = batch.astype(np.float64)
        count = self._count + values.size
        distance = values.mean() - self.mean
        self._squares += ((values - values.mean()) ** 2).sum() + distance**2 * self._count * values.size / count
        self.mean += float(distance) * values.size / count
        self._count = count
        self._zeros += int((batch == 0).sum())
        self._alive |= (batch != 0).any(axis=0)

    @property
    def variance(self) -> float:
        """The population variance of all units over all examples."""
        return float(self._squares / self._count)

    @property
    def zero_fraction(self) -> float:
        """The share of values that are zero, from 0 to 1."""
        return self._zeros / self._count

    @property
    def dead_units(self) -> int:
        """How many units are zero on every example."""
        return int((~self._alive).sum())


def measure(
    client: fluoroscope.Client, model: str, images: np.ndarray, *, sites: Sequence[str], batch_size: int
) -> Iterator[tuple[int, dict[str, Layer]]]:
    """Streams the activations of all images, a batch at a time, and holds one value at a time.

    Args:
        client: a connection to the server.
        model: the name of the model, which takes one input named `image`.
        images: all images, `(images, ...)`.
        sites: globs of the sites to look at.
        batch_size: how many images each request holds.

    Yields:
        After each batch how many images are done, and the layers by site in execution order. The layers are the
        same objects each time.
    """
    layers: dict[str, Layer] = {}
    for start in range(0, len(images), batch_size):
        batch = images[start : start + batch_size]
        for activation in client.stream(model, {"image": batch}, sites=sites):
            layer = layers.setdefault(activation.site, Layer(activation.site, activation.shape[1:]))
            layer.add(activation.array)
        yield start + len(batch), layers
