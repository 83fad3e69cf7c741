"""Statistics of an array that is already here, as the server would compute them of one that is not."""

from __future__ import annotations

import numpy as np

from fluoroscope.calls import SiteStatistics


def describe(array: np.ndarray) -> SiteStatistics | None:
    """Returns the statistics of an array, computed in float64; None for complex numbers."""
    if array.dtype.kind == "c":
        return None
    values = array.astype(np.float64)
    finite = values[np.isfinite(values)]
    some = bool(finite.size)
    nan = float("nan")
    return SiteStatistics(
        count=values.size,
        mean=float(finite.mean()) if some else nan,
        std=float(finite.std()) if some else nan,
        min=float(finite.min()) if some else nan,
        max=float(finite.max()) if some else nan,
        abs_max=float(np.abs(finite).max()) if some else nan,
        l2_norm=float(np.sqrt((finite**2).sum())),
        zero_count=int((values == 0).sum()),
        nan_count=int(np.isnan(values).sum()),
        inf_count=int(np.isinf(values).sum()),
    )
