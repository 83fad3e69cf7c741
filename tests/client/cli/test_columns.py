"""What a table says of results."""

from __future__ import annotations

import io
import sys
from typing import TYPE_CHECKING

import numpy as np

from fluoroscope import SiteCovariance, SiteDeadUnits, SiteHistogram, SiteQuantiles, TopElements
from fluoroscope.cli.columns import bars, columns_of

if TYPE_CHECKING:
    import pytest


def test_bars() -> None:
    assert bars(np.array([0, 1, 4, 8])) == "| ▁▄█|"
    assert bars(np.array([0, 0])) == "|  |"
    assert bars(np.array([1, 10**9])) == "|▁█|", "where something is, there is a block"
    wide = bars(np.arange(1000))
    assert len(wide) == 42
    assert wide[-2] == "█"
    assert bars(np.full(50, 7)) == f"|{'█' * 40}|", "blocks of two bins are no higher than those of one"
    assert bars(np.zeros(0, np.int64)) == "||"


def test_bars_where_there_are_no_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding="ascii"))
    assert bars(np.array([0, 1, 4, 8])) == "| .=%|"


def test_a_histogram() -> None:
    found = SiteHistogram(low=-1, high=2.5, counts=np.array([1, 2]), below_count=3, above_count=4, nan_count=5)
    assert columns_of(found) == {
        "low": "-1",
        "histogram": "|▄█|",
        "high": "2.5",
        "below": "3",
        "above": "4",
        "NaN": "5",
    }


def test_quantiles() -> None:
    found = SiteQuantiles(probabilities=(0.05, 0.5), values=(1, 2.00001), finite_count=9)
    assert columns_of(found) == {"0.05": "1", "0.5": "2"}


def test_dead_units() -> None:
    found = SiteDeadUnits(zero_counts=np.array([3, 0] + [3] * 6), sample_count=3)
    assert columns_of(found) == {"units": "8", "dead": "7", "share": "87.5%", "which": "0, 2, 3, 4, 5, and 2 more"}


def test_top_elements() -> None:
    one = TopElements(values=np.array([[2.5, -1]]), indices=np.array([[7, 0]]))
    assert columns_of(one) == {"result": "1 x 2", "greatest": "7: 2.5, 0: -1"}
    more = TopElements(values=np.ones((3, 2, 1), "int8"), indices=np.zeros((3, 2, 1), "int32"))
    assert columns_of(more) == {"result": "3 x 2 x 1", "greatest": "the first: 0: 1"}
    none = TopElements(values=np.ones((0, 2)), indices=np.ones((0, 2), "int32"))
    assert columns_of(none)["greatest"] == ""


def test_covariance() -> None:
    matrix = np.array([[9, 0.5, np.nan], [0.5, 9, -0.7], [np.nan, -0.7, 9]])
    found = SiteCovariance(matrix=matrix, mean=np.zeros(3), sample_count=4)
    assert columns_of(found) == {"units": "3", "samples": "4", "strongest pair": "1 and 2: -0.7"}
    alone = SiteCovariance(matrix=np.ones((1, 1)), mean=np.zeros(1), sample_count=4)
    assert columns_of(alone)["strongest pair"] == ""


def test_arrays() -> None:
    assert columns_of(np.array([1.0, 3.0])) == {"result": "2", "min": "1", "mean": "2", "max": "3"}
