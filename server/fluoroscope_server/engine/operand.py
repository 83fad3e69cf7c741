"""What an edit writes, as an array of the site's dtype, as large as it must be."""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax.numpy as jnp
import numpy as np

from fluoroscope_server.errors import InvalidRequestError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fluoroscope_server.engine.site import Site


def as_dtype(array: np.ndarray, site: Site, *, what: str, field: str) -> np.ndarray:
    """Returns an array in the dtype of a site: floats rounded to it, all else unchanged.

    Raises:
        InvalidRequestError: the dtype cannot hold it.
    """
    refusal = _refusal(array, site.dtype)
    if refusal:
        raise InvalidRequestError(
            f"{what} is {array.dtype}, and site {site.path!r} is {site.dtype}: {refusal}",
            field=field,
            reason="WRONG_DTYPE",
        )
    return array.astype(site.dtype)


def spread(
    array: np.ndarray, indices: Sequence[np.ndarray], sizes: Sequence[int], site: Site, *, what: str, field: str
) -> tuple[np.ndarray, tuple[int, ...]]:
    """Returns an array with a place for each index of a value, and the axes along which it differs.

    Args:
        array: what is given for the chosen part of the value; it broadcasts to that.
        indices: the chosen indices of each axis.
        sizes: the size of each axis.
        site: the site.
        what: what the array is called in errors.
        field: the request field to blame.

    Returns:
        The array, of size one along all other axes, and zero where nothing was chosen.

    Raises:
        InvalidRequestError: the array does not broadcast to the chosen part.
    """
    chosen = tuple(map(len, indices))
    own = (1,) * (len(chosen) - array.ndim) + array.shape
    if len(own) != len(chosen) or any(size not in {1, most} for size, most in zip(own, chosen, strict=True)):
        raise InvalidRequestError(
            f"{what} has shape {array.shape}, and what is edited of site {site.path!r} has shape {chosen}: "
            "it must have that shape, or broadcast to it",
            field=field,
            reason="WRONG_SHAPE",
        )
    varying = tuple(axis for axis, size in enumerate(own) if size > 1)
    whole = np.zeros([sizes[axis] if axis in varying else 1 for axis in range(len(own))], array.dtype)
    places = [each if axis in varying else np.zeros(1, np.intp) for axis, each in enumerate(indices)]
    whole[np.ix_(*places)] = array.reshape(own)
    return whole, varying


def padded(array: np.ndarray, axis: int, size: int) -> np.ndarray:
    """Returns an array with copies of the last of its own elements along an axis behind it, up to a size.

    Zeros would do for values, but not for gradients: see `differentiating`.
    """
    filled: np.ndarray = np.take(array, np.minimum(np.arange(size), array.shape[axis] - 1), axis=axis)
    return filled


def _refusal(array: np.ndarray, dtype: np.dtype) -> str:
    """Returns why a dtype cannot hold an array; empty if it can."""
    if array.dtype == dtype:
        return ""
    given, wanted = _rank(array.dtype), _rank(dtype)
    if given > wanted or (wanted == 0 and given != wanted):
        return f"it cannot hold {array.dtype} values; give {dtype}"
    with np.errstate(over="ignore"):
        converted = array.astype(dtype)
    if wanted == given == 1 and ((converted.astype(array.dtype) != array) | ((converted < 0) != (array < 0))).any():
        return f"it cannot hold {array.min()} to {array.max()}"
    if wanted > 1 and given > 0 and (np.isfinite(array) & ~np.isfinite(converted)).any():
        return "it cannot hold what is as large"
    return ""


def _rank(dtype: np.dtype) -> int:
    """Returns which kind of numbers a dtype is of: each holds those before it, but truth values only themselves."""
    kinds: tuple[type[np.generic], ...] = (np.bool_, np.integer, np.floating, np.complexfloating)
    return next(rank for rank, kind in enumerate(kinds) if jnp.issubdtype(dtype, kind))
