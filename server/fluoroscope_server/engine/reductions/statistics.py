"""The numbers that describe a value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import jax.numpy as jnp
import numpy as np

from fluoroscope_server.errors import InvalidRequestError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import jax


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteStatistics:
    """Statistics of one value. NaN and infinite elements are counted, and left out of everything else."""

    count: int
    """How many elements the value has."""

    mean: float
    """The mean of the finite elements; NaN if there is none."""

    std: float
    """The population standard deviation of the finite elements; NaN if there is none."""

    min: float
    """The least finite element; NaN if there is none."""

    max: float
    """The greatest finite element; NaN if there is none."""

    abs_max: float
    """The greatest magnitude of the finite elements; NaN if there is none."""

    l2_norm: float
    """The Euclidean norm of the finite elements."""

    zero_count: int
    """How many elements are zero."""

    nan_count: int
    """How many elements are NaN."""

    inf_count: int
    """How many elements are infinite."""


@dataclass(frozen=True, slots=True)
class Statistics:
    """Computes `SiteStatistics` on the device, in float32."""

    gives_tensor = False

    def check(self, dtype: np.dtype, site: str) -> None:
        """Refuses complex values: they have no order."""
        if np.issubdtype(dtype, np.complexfloating):
            raise InvalidRequestError(
                f"site {site!r} is {dtype}, and statistics are of real values; capture it full", field="captures"
            )

    def compute(self, value: jax.Array, valid: jax.Array | None) -> tuple[jax.Array, ...]:
        """Returns a float32 array `(6,)` and an int32 array `(3,)`, in the order of the fields.

        The variance is taken around the mean in a second pass: the textbook's difference of squares loses
        all digits in float32 when the mean is large.
        """
        x = value.astype(jnp.float32)
        present = jnp.ones((), bool) if valid is None else valid
        finite = jnp.isfinite(x) & present
        number = jnp.sum(finite, dtype=jnp.int32).astype(jnp.float32)
        kept = jnp.where(finite, x, 0.0)
        mean = jnp.sum(kept) / number
        std = jnp.sqrt(jnp.sum(jnp.where(finite, jnp.square(kept - mean), 0.0)) / number)
        abs_max = jnp.max(jnp.abs(kept), initial=0.0)
        scale = jnp.where(abs_max > 0, abs_max, 1.0)  # squares of large values would overflow, of small ones vanish
        l2_norm = scale * jnp.sqrt(jnp.sum(jnp.square(kept / scale)))
        least = jnp.min(jnp.where(finite, x, jnp.inf), initial=jnp.inf)
        greatest = jnp.max(jnp.where(finite, x, -jnp.inf), initial=-jnp.inf)
        none = number == 0
        numbers = [jnp.where(none, jnp.nan, each) for each in (mean, std, least, greatest, abs_max)]
        counts = [jnp.sum(each & present, dtype=jnp.int32) for each in (x == 0, jnp.isnan(x), jnp.isinf(x))]
        return jnp.stack([*numbers, l2_norm]), jnp.stack(counts)

    @staticmethod
    def read(arrays: Sequence[np.ndarray], count: int) -> SiteStatistics:
        """Returns what `compute` left on the device as statistics of a value of `count` elements."""
        mean, std, least, greatest, abs_max, l2_norm = arrays[0].tolist()
        zeros, nans, infs = arrays[1].tolist()
        return SiteStatistics(
            count=count,
            mean=mean,
            std=std,
            min=least,
            max=greatest,
            abs_max=abs_max,
            l2_norm=l2_norm,
            zero_count=zeros,
            nan_count=nans,
            inf_count=infs,
        )
