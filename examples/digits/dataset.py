"""The images that the demo's network learns from and is tested with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from pathlib import Path

FILE = "images.npz"
"""The name of the file that keeps them: to read it takes no scikit-learn."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Dataset:
    """Images of handwritten digits, and what they are."""

    images: np.ndarray
    """The pixels from 0 (paper) to 1 (ink), float32 of shape `(images, 8, 8)`."""

    labels: np.ndarray
    """The digit on each image, int32 of shape `(images,)`."""

    is_test: np.ndarray
    """Whether each image was kept from training, bool of shape `(images,)`."""

    def write(self, folder: Path) -> None:
        """Writes the images into a folder."""
        np.savez_compressed(folder / FILE, images=self.images, labels=self.labels, is_test=self.is_test)

    @classmethod
    def read(cls, folder: Path) -> Dataset:
        """Returns the images that were written into a folder."""
        with np.load(folder / FILE) as arrays:
            return cls(images=arrays["images"], labels=arrays["labels"], is_test=arrays["is_test"])
