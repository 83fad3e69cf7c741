"""What batches come to, against NumPy in float64 of all of them; NumPy in float32 stands in for the server."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import fluoroscope
from fluoroscope import (
    Correlation,
    Covariance,
    DeadUnits,
    Full,
    Histogram,
    InvalidRequestError,
    LimitExceededError,
    Mean,
    Norm,
    Quantiles,
    Site,
    SiteCovariance,
    SiteDeadUnits,
    SiteHistogram,
    SiteKind,
    Slice,
    Statistics,
    Survey,
    TopElements,
    TopK,
    WrongStateError,
)
from fluoroscope.calls.passes import range_of
from fluoroscope.cli.describe import describe
from fluoroscope.cli.report import tensors_of

if TYPE_CHECKING:
    from fluoroscope import SiteStatistics

FLOATS = st.floats(width=32, min_value=-(2.0**126), max_value=2.0**126, allow_subnormal=False).filter(
    lambda x: x == 0 or abs(x) > 2.0**-114
)
ANY = st.one_of(FLOATS, st.sampled_from([0.0, 0.0, 1.0, -1.0, -2.0, 4.0, math.nan, math.inf, -math.inf]))
VALUES = arrays(np.float32, st.tuples(st.integers(1, 30), st.integers(1, 4)), elements=ANY)
CUTS = st.lists(st.integers(1, 29), max_size=4, unique=True)


def test_a_site_of_a_type_that_cannot_be_sent() -> None:
    odd = dataclasses.replace(site(), dtype=None, not_capturable_reason="it is int1")
    with pytest.raises(InvalidRequestError, match="site 'relu:0' cannot be captured: it is int1") as refused:
        Survey([site(path="a"), odd], reduce=Statistics())
    assert refused.value.field == "sites"


def site(shape: tuple[int, ...] = (-1, 4), path: str = "relu:0") -> Site:
    return Site(
        path=path,
        kind=SiteKind.EQUATION,
        dtype=np.dtype(np.float32),
        shape=shape,
        bytes_per_example=0,
        not_capturable_reason="",
        flops_fraction=1.0,
    )


def statistics_of(x: np.ndarray) -> SiteStatistics:
    found = describe(x)
    assert found is not None
    return found


def histogram_of(x: np.ndarray, asked: Histogram) -> SiteHistogram:
    """Counts as the device does: in float32."""
    low, high = map(np.float32, range_of(asked, statistics_of(x)))
    inside = x[(x >= low) & (x <= high)]
    scale = np.float32(2.0 ** -math.frexp(max(abs(low), abs(high)))[1])
    slots = (inside * scale - low * scale) * np.float32(asked.bins) / (high * scale - low * scale)
    slots = np.clip(np.floor(slots).astype(int), 0, asked.bins - 1)
    return SiteHistogram(
        low=float(low),
        high=float(high),
        counts=np.bincount(slots, minlength=asked.bins),
        below_count=int((x < low).sum()),
        above_count=int((x > high).sum()),
        nan_count=int(np.isnan(x).sum()),
    )


def computed(x: np.ndarray, asked: Any) -> Any:  # noqa: PLR0911  # a line for each reduction
    """What a device brings of one batch."""
    match asked:
        case Statistics():
            return statistics_of(x)
        case Histogram():
            return histogram_of(x, asked)
        case DeadUnits():
            return SiteDeadUnits(zero_counts=(x == 0).sum(0), sample_count=len(x))
        case Covariance():
            matrix = np.cov(x.T.astype(np.float64), bias=True).reshape(x.shape[1], -1).astype(np.float32)
            return SiteCovariance(matrix=matrix, mean=x.mean(0), sample_count=len(x))
        case Full():
            return x
        case TopK():
            indices = np.argsort(-x, -1, kind="stable")[..., : asked.k].astype(np.int32)
            return TopElements(values=np.take_along_axis(x, indices, -1), indices=indices)
        case Mean():
            return x.mean(tuple(asked.axes) or None, dtype=np.float32)  # type: ignore[arg-type]  # kept as a tuple
        case Norm():
            axes = tuple(asked.axes) or None  # type: ignore[arg-type]  # kept as a tuple
            power = asked.order
            return np.abs(x).max(axes) if power == math.inf else (np.abs(x) ** power).sum(axes) ** (1 / power)
    raise AssertionError(asked)


def surveyed(x: np.ndarray, cuts: list[int], *reduce: fluoroscope.Reduction[Any]) -> tuple[fluoroscope.Activation, int]:
    """Returns what a survey of a value found, in batches, and how many passes it took."""
    survey = Survey([site((-1, *x.shape[1:]))], reduce=reduce)
    parts = [part for part in np.split(x, sorted(cuts)) if len(part)]
    passes = 0
    for question in survey.passes():
        passes += 1
        for part in parts:
            results = {asked: computed(part, asked) for asked in question["sites"]["relu:0"]}
            survey.add(answer(part, results, rows=len(part)))
    assert survey["relu:0"].shape == x.shape
    assert survey.rows == len(x)
    return survey["relu:0"], passes


def answer(x: np.ndarray, results: dict[Any, Any], *, rows: int) -> Any:
    """Returns an inspection that brought these results of a value."""
    activation = fluoroscope.Activation(
        site="relu:0", kind=SiteKind.EQUATION, dtype=x.dtype, shape=x.shape, results=results
    )
    return _Answer({"relu:0": activation}, rows=rows)


class _Answer(dict[str, fluoroscope.Activation]):
    def __init__(self, activations: dict[str, fluoroscope.Activation], *, rows: int) -> None:
        super().__init__(activations)
        self.rows = rows
        self.model, self.version, self.digest = "digits", 1, "f47fed344da6ff"


@settings(max_examples=100)
@given(x=VALUES, cuts=CUTS)
def test_statistics(x: np.ndarray, cuts: list[int]) -> None:
    found, whole = surveyed(x, cuts, Statistics())[0][Statistics()], statistics_of(x)
    exact = ("count", "finite_count", "zero_count", "nan_count", "inf_count", "min", "max", "abs_max")
    for name in exact:
        np.testing.assert_array_equal(getattr(found, name), getattr(whole, name))  # a zero of either sign is zero
    room = 1e-6 * (0 if math.isnan(whole.abs_max) else whole.abs_max)
    np.testing.assert_allclose(found.mean, whole.mean, rtol=0, atol=room)
    np.testing.assert_allclose(found.std, whole.std, rtol=0, atol=room)
    np.testing.assert_allclose(found.l2_norm, whole.l2_norm, rtol=1e-12)


@settings(max_examples=100)
@given(
    x=VALUES,
    cuts=CUTS,
    ends=st.sampled_from([(None, None), (0.0, None), (None, 1.0), (-1.0, 2.0)]),
    bins=st.sampled_from([1, 7, 50]),
)
def test_histograms(x: np.ndarray, cuts: list[int], ends: tuple[float | None, float | None], bins: int) -> None:
    asked = Histogram(bins=bins, low=ends[0], high=ends[1])
    found, whole = surveyed(x, cuts, asked)[0][asked], histogram_of(x, asked)
    np.testing.assert_array_equal(found.counts, whole.counts)
    assert (found.below_count, found.above_count) == (whole.below_count, whole.above_count)
    assert found.nan_count == whole.nan_count
    if np.isfinite(x).any():
        assert (found.low, found.high) == (whole.low, whole.high)
    else:
        want = [math.nan if end is None else end for end in ends]
        np.testing.assert_array_equal([found.low, found.high], want)


@settings(max_examples=120)
@given(x=VALUES, cuts=CUTS, more=st.floats(0, 1))
def test_quantiles_are_exact(x: np.ndarray, cuts: list[int], more: float) -> None:
    asked = Quantiles(0, 0.05, 0.5, 0.95, 1, more)
    found = surveyed(x, cuts, asked)[0][asked]
    finite = np.sort(x[np.isfinite(x)].astype(np.float64))
    assert found.finite_count == len(finite)
    if len(finite) == 0:
        assert np.isnan(found.values).all()
        return
    assert (found[0.0], found[1.0]) == (finite[0], finite[-1])
    want = np.quantile(finite, asked.probabilities)
    np.testing.assert_allclose(found.values, want, rtol=1e-12, atol=1e-12 * np.abs(finite).max())
    if len(finite) % 2:
        assert found[0.5] == np.median(finite)


def test_quantiles_take_three_passes_of_common_values() -> None:
    x = np.random.default_rng(0).normal(size=(1000, 8)).astype(np.float32)
    asked = Quantiles(0.05, 0.5, 0.95)
    found, passes = surveyed(x, [300, 700], asked)
    np.testing.assert_allclose(found[asked].values, np.quantile(x.astype(np.float64), asked.probabilities), rtol=1e-12)
    assert passes == 3
    assert surveyed(np.maximum(x, 0), [300, 700], Quantiles(0.1, 0.9))[1] == 3
    assert surveyed(np.zeros((9, 2), np.float32), [3], asked)[1] == 1


def test_quantiles_that_cannot_be_exact_are_refused() -> None:
    with pytest.raises(InvalidRequestError, match=r"elements as great as 2e\+38 have no exact quantiles"):
        surveyed(np.array([[2e38], [1.0]], np.float32), [1], Quantiles(0.5))
    for x in (1e-35, -1e-35, -1e-40):
        with pytest.raises(InvalidRequestError, match=r"a quantile is as near to zero as 4\.8e-35"):
            surveyed(np.array([[x], [1.0], [-1.0]], np.float32), [1], Quantiles(0.5))
    with pytest.raises(InvalidRequestError, match="there are 41 probabilities; of a data set, ask for at most 40"):
        Survey([site()], reduce=Quantiles(*np.linspace(0, 1, 41)))


@settings(max_examples=50)
@given(seed=st.integers(0, 2**32), cuts=CUTS)
def test_units_and_axes(seed: int, cuts: list[int]) -> None:
    x = np.maximum(np.random.default_rng(seed).normal(size=(30, 4)), 0).astype(np.float32)
    x[:, 1] = 0
    x[:, 2] = 0.3
    means, norms = (
        (Mean(axes=0), Mean(axes=(0, 1)), Mean()),
        (Norm(axes=0), Norm(order=1), Norm(axes=-2, order=math.inf)),
    )
    reduce = (DeadUnits(), Covariance(), Correlation(), *means, *norms)
    found, passes = surveyed(x, cuts, *reduce)
    assert passes == 1
    assert list(found.results) == list(reduce)
    wide = x.astype(np.float64)
    np.testing.assert_array_equal(found[DeadUnits()].zero_counts, (x == 0).sum(0))
    np.testing.assert_array_equal(found[DeadUnits()].indices, [1])
    np.testing.assert_allclose(found[Covariance()].matrix, np.cov(wide.T, bias=True), atol=1e-6)
    with np.errstate(invalid="ignore", divide="ignore"):
        want = np.corrcoef(wide[:, [0, 3]].T)
    np.testing.assert_allclose(found[Correlation()].matrix[np.ix_([0, 3], [0, 3])], want, atol=1e-5)
    assert np.isnan(found[Correlation()].matrix[[1, 2]]).all()
    for each in (*means, *norms):
        assert isinstance(found[each], np.ndarray), "a number is an array, too"
    for mean in means:
        np.testing.assert_allclose(found[mean], wide.mean(tuple(mean.axes) or None), rtol=1e-6)  # type: ignore[arg-type]  # kept as a tuple
    np.testing.assert_allclose(found[norms[0]], np.linalg.norm(wide, axis=0), rtol=1e-6)
    np.testing.assert_allclose(found[norms[1]], wide.sum(), rtol=1e-6)
    np.testing.assert_array_equal(found[norms[2]], x.max(0))


@settings(max_examples=50)
@given(data=st.data(), shape=st.sampled_from([(7,), (7, 3), (2, 7, 3), (2, 3, 7)]))
def test_what_is_one_for_each_example(data: st.DataObject, shape: tuple[int, ...]) -> None:
    """The batch, here of seven, is any axis; each example's part of a result is where it is in that of one batch."""
    batch, axes = shape.index(7), len(shape)
    reduce: list[fluoroscope.Reduction[Any]] = [Full(), Statistics()]
    if batch < axes - 1:
        reduce.append(TopK(2))
    if others := [axis for axis in range(-axes, axes) if axis % axes != batch]:
        reduce += [Mean(axes=data.draw(st.sampled_from(others))), Norm(axes=data.draw(st.sampled_from(others)))]
    x = np.random.default_rng(len(shape)).normal(size=shape).astype(np.float32)
    survey = Survey([site(tuple(-1 if size == 7 else size for size in shape))], reduce=reduce)
    parts = np.split(x, sorted(data.draw(st.sets(st.integers(1, 6)))), batch)
    for question in survey.passes():
        for part in parts:
            asked = question["sites"]["relu:0"]
            survey.add(answer(part, {each: computed(part, each) for each in asked}, rows=part.shape[batch]))
    assert survey["relu:0"].shape == shape
    for each in reduce:
        want, got = (tensors_of(found) for found in (computed(x, each), survey["relu:0"][each]))
        assert list(got) == list(want)
        for name, tensor in got.items():
            np.testing.assert_array_equal(tensor, want[name], strict=True)


def test_too_much_to_hold_is_refused_by_the_first_batch_that_tells() -> None:
    batch = np.zeros((8, 4), np.float32)
    survey = Survey([site()], reduce=Full(), max_bytes=300)
    for _ in survey.passes():
        survey.add(answer(batch, {Full(): batch}, rows=8))
        survey.add(answer(batch, {Full(): batch}, rows=8))
        with pytest.raises(LimitExceededError, match=r"the values of 24 examples have 384 bytes, .* limit is 300"):
            survey.add(answer(batch, {Full(): batch}, rows=8))
    survey = Survey([site()], reduce=[Full(), Statistics()], max_bytes=300, expected_rows=20)
    next(survey.passes())
    with pytest.raises(LimitExceededError, match="the values of 20 examples have 320 bytes"):
        survey.add(answer(batch, {Full(): batch, Statistics(): statistics_of(batch)}, rows=8))


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"version": 2}, r"version 2 of 'digits' \(f47fed344da6\)"),
        ({"model": "letters"}, "version 1 of 'letters'"),
        ({"digest": "0123456789abcdef"}, r"version 1 of 'digits' \(0123456789ab\)"),
    ],
)
def test_numbers_of_two_networks_are_not_put_together(changes: dict[str, Any], named: str) -> None:
    """As they come when a version is swapped, also between two passes."""
    batch = np.ones((8, 4), np.float32)
    survey = Survey([site()], reduce=Histogram(bins=2))
    for number, question in enumerate(survey.passes()):
        mine = answer(batch, {each: computed(batch, each) for each in question["sites"]["relu:0"]}, rows=8)
        survey.add(mine)
        if number == 1:
            vars(mine).update(changes)
            with pytest.raises(
                WrongStateError, match=rf"answered by {named}.*, and those before by version 1 of 'digi"
            ):
                survey.add(mine)
    assert (survey.rows, survey["relu:0"][Histogram(bins=2)].counts.sum()) == (8, 32)


def test_what_lacks_something_is_not_taken_by_half() -> None:
    batch = np.ones((8, 4), np.float32)
    survey = Survey([site(), dataclasses.replace(site(), path="relu:1")], reduce=Statistics())
    for _ in survey.passes():
        whole = answer(batch, {Statistics(): statistics_of(batch)}, rows=8)
        with pytest.raises(KeyError, match="relu:1"):
            survey.add(whole)
        whole["relu:1"] = whole["relu:0"]
        survey.add(whole)
    assert [survey[path][Statistics()].count for path in survey] == [32, 32]
    assert survey.rows == 8
    with pytest.raises(ValueError, match="there is no pass now: add each batch within"):
        survey.add(whole)


def test_sites_are_those_that_a_client_lists() -> None:
    with pytest.raises(InvalidRequestError, match=r"sites hold 'r'; expected what `client\.sites"):
        Survey("relu:0", reduce=Statistics())  # type: ignore[arg-type]  # a path in place of sites


def test_a_value_that_is_the_same_for_any_batch_counts_once() -> None:
    survey = Survey([site((1, 4))], reduce=[Statistics(), DeadUnits(), Mean(axes=-1), Full()])
    bias = np.array([[0, 1, 2, 3]], np.float32)
    for question in survey.passes():
        for _ in range(3):
            results = {asked: computed(bias, asked) for asked in question["sites"]["relu:0"]}
            survey.add(answer(bias, results, rows=8))
    assert survey["relu:0"][Statistics()].count == 4
    assert survey["relu:0"][DeadUnits()].sample_count == 1
    np.testing.assert_array_equal(survey["relu:0"][Mean(axes=-1)], [1.5])
    np.testing.assert_array_equal(survey["relu:0"][Full()], bias)
    assert survey["relu:0"].shape == (1, 4)
    assert survey.rows == 24


@pytest.mark.parametrize(
    ("reduce", "shape", "message"),
    [
        (
            DeadUnits(),
            (4, -1),
            r"DeadUnits\(\) of 'relu:0' does not add up over a data set: its last axis is the batch",
        ),
        (Covariance(), (-1,), "its last axis is the batch; inspect its batches one by one"),
    ],
)
def test_what_does_not_add_up(reduce: fluoroscope.Reduction[Any], shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(InvalidRequestError, match=message):
        Survey([site(shape)], reduce=reduce)


@pytest.mark.parametrize("axis", [0, -2])
def test_a_slice_of_the_batch_is_refused(axis: int) -> None:
    with pytest.raises(InvalidRequestError, match="axis 0 of 'relu:0' is the batch"):
        Survey([site()], reduce=Statistics(), slices=Slice(axis, 0, 1))


def test_a_pass_without_a_batch_is_no_pass() -> None:
    passes = Survey([site()], reduce=Statistics()).passes()
    assert next(passes)["sites"] == {"relu:0": (Statistics(),)}
    with pytest.raises(ValueError, match="no example was added in this pass"):
        next(passes)


def test_histograms_with_other_bins_do_not_add_up() -> None:
    one, other = (histogram_of(np.ones((2, 2), np.float32), Histogram(bins=4, low=0, high=high)) for high in (1, 2))
    with pytest.raises(ValueError, match=r"4 bins from 0\.0 to 1\.0 here and 4 from 0\.0 to 2\.0 there"):
        _ = one + other


def test_a_survey_of_no_site_is_refused() -> None:
    with pytest.raises(InvalidRequestError, match="no sites are given to survey"):
        Survey([], reduce=Statistics())


@pytest.mark.parametrize("probabilities", [([0.5, 0.9],), ("a",), (None,)])
def test_probabilities_are_numbers(probabilities: tuple[Any, ...]) -> None:
    with pytest.raises(InvalidRequestError, match=r"Quantiles of .*; expected numbers from 0 to 1, one by one, as in"):
        Quantiles(*probabilities)
