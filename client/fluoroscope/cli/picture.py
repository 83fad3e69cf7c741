"""Pictures as inputs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import click
import numpy as np
from PIL import Image

from fluoroscope.calls.model import BATCH

if TYPE_CHECKING:
    from fluoroscope.calls import TensorSpec

_MODES: Final = {1: "L", 3: "RGB", 4: "RGBA"}
_COLOURS: Final = {"L": "grey", "RGB": "RGB", "RGBA": "RGB with alpha"}


def as_pixels(image: Image.Image, spec: TensorSpec) -> np.ndarray:
    """Returns a picture in the size, channels and dtype of an input; says what was done to it.

    Floats are scaled to 0..1; integers are the pixels' own 0..255, to which 16 bits are reduced. Shape: that of
    the input without its batch axis, `(height, width, channels)` or `(height, width)`.

    Raises:
        click.UsageError: The input is not of such a shape, nor of a known type, or cannot hold 0..255; or the pixels
            of the picture have no range.
    """
    shape = tuple(size for size in spec.shape if size != BATCH)
    mode = _mode(shape)
    if mode is None:
        raise _unfit(spec, "expected (height, width, channels) with 1, 3 or 4 channels, or (height, width)")
    if spec.dtype is None:
        raise _unfit(spec, "its type is one that this client does not know")
    if spec.dtype.name.startswith(("int", "uint")) and int(np.uint8(255).astype(spec.dtype)) != 255:
        raise _unfit(spec, f"pixels are 0 to 255, which {spec.dtype} cannot hold")
    if image.mode in {"I", "F"}:
        raise _unfit(spec, f"its pixels (mode {image.mode}) are numbers of any size, and none of them is white")
    done = [f"{image.width}x{image.height} {image.mode} image"]
    if image.mode.startswith("I;16"):
        done.append("reduced to 8 bits")
        image = Image.fromarray(np.rint(np.asarray(image) / 257).astype(np.uint8))
    if mode != image.mode:
        done.append(f"converted to {_COLOURS[mode]}")
        image = image.convert(mode)
    height, width = shape[:2]
    if image.size != (width, height):
        done.append(f"resized to {width}x{height}")
        image = image.resize((width, height), Image.Resampling.BICUBIC)
    pixels = np.asarray(image, np.uint8).reshape(shape)
    if spec.dtype.kind in "iu":
        array = pixels.astype(spec.dtype)
    else:
        done.append("scaled to 0..1")
        array = (pixels.astype(np.float32) / 255).astype(spec.dtype)
    click.echo(f"{spec.name}: {', '.join(done)}", err=True)
    return array


def _unfit(spec: TensorSpec, why: str) -> click.UsageError:
    return click.UsageError(f"an image cannot be the input {spec}: {why}. Give an array: .npy or JSON.")


def _mode(shape: tuple[int, ...]) -> str | None:
    if len(shape) == 2:
        return "L"
    return _MODES.get(shape[2]) if len(shape) == 3 else None
