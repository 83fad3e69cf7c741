"""Reductions and summaries, to messages and back."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from fluoroscope.v1 import inspection_pb2 as inspection
from fluoroscope_server.engine import (
    Cast,
    Correlation,
    Covariance,
    DeadUnits,
    Full,
    Histogram,
    Mean,
    Norm,
    Quantiles,
    SiteHistogram,
    SiteQuantiles,
    SiteStatistics,
    Statistics,
    TopK,
)
from fluoroscope_server.errors import InvalidRequestError
from fluoroscope_server.rpc.reduction import REDUCTIONS, SUMMARIES, decode_reduction, encode_reduction, encode_summary

if TYPE_CHECKING:
    from fluoroscope_server.engine import (
        Reduction,
        Summary,
    )

R = inspection.Reduction

ASKED: list[Reduction] = [
    Full(),
    Statistics(),
    Histogram(bins=50),
    Histogram(bins=50, low=0.1),
    Histogram(bins=50, high=0.0),
    Histogram(bins=10_000, low=-1e30, high=1e30),
    Quantiles(probabilities=(0.05, 0.5, 1.0, 0.0, 0.5)),
    Norm(),
    Norm(axes=(0, -1), order=1.0),
    Norm(axes=(2,), order=math.inf),
    Mean(),
    Mean(axes=(-2, 1)),
    TopK(k=7),
    DeadUnits(),
    Covariance(),
    Correlation(),
]


@pytest.mark.parametrize("reduction", ASKED, ids=repr)
def test_there_and_back(reduction: Any) -> None:
    """Parameters that are no part of a plan come back as well: a client can tell two histograms apart."""
    message = R()
    encode_reduction(reduction, message)
    parsed = R.FromString(message.SerializeToString())
    found: Any = decode_reduction(parsed, field="f")
    assert type(found) is type(reduction)
    names = [each.name for each in dataclasses.fields(found)]
    assert [getattr(found, name) for name in names] == [getattr(reduction, name) for name in names]


def test_every_reduction_of_the_contract_goes_both_ways() -> None:
    """A new one fails here by its name until it has a row, and an example above."""
    contract = {field.name for field in R.DESCRIPTOR.oneofs_by_name["reduction"].fields}
    assert set(REDUCTIONS) == contract
    assert {type(each) for each in ASKED} == {row.kind for row in REDUCTIONS.values()}


def test_a_cast_is_said_by_the_type_of_the_results() -> None:
    plain, cast = R(), R()
    encode_reduction(TopK(k=3), plain)
    encode_reduction(Cast(reduction=TopK(k=3), dtype=np.dtype(np.int8)), cast)
    assert plain == cast


@pytest.mark.parametrize(
    ("message", "field", "text"),
    [
        (R(histogram=R.Histogram()), "histogram.bins", "bins is 0; expected 1 to 10,000"),
        (R(histogram=R.Histogram(bins=10_001)), "histogram.bins", "bins is 10001"),
        (R(histogram=R.Histogram(bins=1, low=math.nan)), "histogram.low", "low is nan; expected a finite float32"),
        (R(histogram=R.Histogram(bins=1, high=math.inf)), "histogram.high", "high is inf"),
        (R(histogram=R.Histogram(bins=1, high=1e39)), "histogram.high", "high is 1e\\+39"),
        (R(histogram=R.Histogram(bins=1, low=2, high=2)), "histogram.low", "low is 2.0 and high is 2.0: low must be"),
        (R(histogram=R.Histogram(bins=1, low=3, high=2)), "histogram.low", "low must be less"),
        (R(norm=R.Norm(axes=[0] * 65)), "norm.axes", "there are 65 axes; no value has more than 64"),
        (R(mean=R.Mean(axes=[0] * 10_000)), "mean.axes", "there are 10,000 axes; no value has more than 64"),
        (R(histogram=R.Histogram(bins=1, low=1, high=1 + 1e-9)), "histogram.low", "by more than float32's rounding"),
        (R(histogram=R.Histogram(bins=1, low=0, high=1e-40)), "histogram.low", "by more than float32's rounding"),
        (R(quantiles=R.Quantiles()), "quantiles.probabilities", "there are 0 probabilities; expected 1 to 1,000"),
        (R(quantiles=R.Quantiles(probabilities=[0.5] * 1001)), "quantiles.probabilities", "there are 1,001"),
        (R(quantiles=R.Quantiles(probabilities=[0.5, 1.5])), "quantiles.probabilities[1]", "a probability is 1.5"),
        (R(quantiles=R.Quantiles(probabilities=[-0.1])), "quantiles.probabilities[0]", "a probability is -0.1"),
        (R(quantiles=R.Quantiles(probabilities=[math.nan])), "quantiles.probabilities[0]", "expected 0 to 1"),
        (R(norm=R.Norm(order=9)), "norm.order", "9 is no order of a norm; the orders are ORDER_ONE, ORDER_TWO"),  # type: ignore[arg-type]  # wrong
        (R(top_k=R.TopK()), "top_k.k", "k is 0; expected 1 to the size of the last axis"),
        (R(), "", "no known reduction is set; the known are full"),
    ],
)
def test_parameters_that_cannot_be(message: inspection.Reduction, field: str, text: str) -> None:
    with pytest.raises(InvalidRequestError, match=text) as caught:
        decode_reduction(message, field="captures[0].reductions[2]")
    assert caught.value.field == f"captures[0].reductions[2].{field}".rstrip(".")


def test_a_norm_is_the_second_unless_told_otherwise() -> None:
    assert decode_reduction(R(norm=R.Norm()), field="f") == Norm(order=2.0)


NUMBERS: list[Summary] = [
    SiteStatistics(
        count=3,
        mean=4.0,
        std=5.0,
        min=6.0,
        max=7.0,
        abs_max=8.0,
        l2_norm=9.0,
        zero_count=10,
        nan_count=11,
        inf_count=12,
    ),
    SiteHistogram(low=-1.5, high=2.0, counts=(0, 3, 2**31), below_count=4, above_count=5, nan_count=6),
    SiteQuantiles(values=(1.0, math.inf, -2.5), finite_count=7),
]


@pytest.mark.parametrize("summary", NUMBERS, ids=lambda each: type(each).__name__)
def test_summaries_are_sent_whole(summary: Summary) -> None:
    name, message = encode_summary(summary)
    sent = {field.name: getattr(message, field.name) for field in message.DESCRIPTOR.fields}
    assert {key: tuple(each) if isinstance(getattr(summary, key), tuple) else each for key, each in sent.items()} == {
        field.name: getattr(summary, field.name) for field in dataclasses.fields(summary)
    }
    whole = inspection.Summary()
    getattr(whole, name).CopyFrom(message)
    assert whole.WhichOneof("summary") == name


def test_every_summary_of_the_contract_is_known() -> None:
    contract = {field.name for field in inspection.Summary.DESCRIPTOR.oneofs_by_name["summary"].fields}
    assert {encode_summary(each)[0] for each in NUMBERS} == contract
    assert {type(each) for each in NUMBERS} == set(SUMMARIES)
