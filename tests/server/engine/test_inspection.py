"""Plans: equal questions are one plan, and what does not shape the answer never causes a compile."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.ad_checkpoint import checkpoint_name

from fluoroscope_server.engine import Capture, Full, Histogram, SiteStatistics, Slice, Statistics, check_outputs
from fluoroscope_server.engine.inspection import MOST_CAPTURES
from fluoroscope_server.errors import InvalidRequestError, LimitExceededError, NotFoundError

if TYPE_CHECKING:
    from collections.abc import Callable

    import jax
    from tests.server.engine.conftest import Lab

    from fluoroscope_server.errors import FluoroscopeError

SHAPE = (5, 6)
"""The shape of an example; the batch is between these axes at the site `middle`."""


@pytest.fixture(scope="module")
def lab(function_lab: Callable[..., Lab]) -> Lab:
    def network(_: object, inputs: dict[str, jax.Array]) -> dict[str, jax.Array]:
        x = checkpoint_name(inputs["x"] * 2.0, "first")
        middle = checkpoint_name(jnp.moveaxis(x, 0, 1), "middle")
        spectrum = checkpoint_name(jnp.fft.rfft(x), "spectrum")
        return {"a": jnp.sin(middle).swapaxes(0, 1), "b": x + jnp.abs(spectrum).sum(-1, keepdims=True), "c": x * 3.0}

    return function_lab(network, inputs={"x": {"shape": list(SHAPE)}})


def example(rows: int) -> np.ndarray:
    return np.random.default_rng(rows).normal(size=(rows, *SHAPE)).astype(np.float32)


QUESTION = [
    Capture(sites=("middle", "first"), reductions=(Statistics(), Full())),
    Capture(sites=("first",), slices=(Slice(axis=1, start=1, stop=3), Slice(axis=2, step=2))),
    Capture(sites=("first",), slices=(Slice(axis=1, start=2, stop=4),)),
    Capture(sites=("sin:*", "mi*"), reductions=(Full(),)),
    Capture(sites=("first",), slices=(Slice(axis=2, step=2), Slice(axis=-2, start=-4, stop=3))),
]


@settings(deadline=None, max_examples=50)
@given(seed=st.integers(0, 2**32))
def test_order_and_repetition_do_not_matter(seed: int, lab: Lab) -> None:
    shuffle = random.Random(seed)
    captures = [
        Capture(
            sites=tuple(shuffle.sample(capture.sites * 2, len(capture.sites) * 2)),
            slices=tuple(shuffle.sample(capture.slices, len(capture.slices))),
            reductions=tuple(shuffle.sample(capture.reductions * 2, len(capture.reductions) * 2)),
        )
        for capture in shuffle.sample(QUESTION * 2, len(QUESTION) * 2)
    ]
    want = lab.engine.inspect(QUESTION, ["a", "c"], rows=3)
    assert lab.engine.inspect(captures, ["c", "a", "c"], rows=3) == want
    assert hash(lab.engine.inspect(captures, ["c", "a"], rows=3).plan) == hash(want.plan)


def test_what_is_asked_twice_is_answered_once_in_execution_order(lab: Lab) -> None:
    inspection = lab.engine.inspect(QUESTION, ["c", "a"], rows=3)
    assert [(each.name, type(each.reduction), each.shape) for each in inspection.results] == [
        ("first", Full, (3, 5, 6)),
        ("first", Full, (3, 2, 3)),
        ("first", Full, (3, 2, 6)),
        ("first", Statistics, (3, 5, 6)),
        ("middle", Full, (5, 3, 6)),
        ("middle", Statistics, (5, 3, 6)),
        ("sin:0", Full, (5, 3, 6)),
        ("a", Full, (3, 5, 6)),
        ("c", Full, (3, 5, 6)),
    ]


def test_results_are_in_the_order_of_their_announcement(lab: Lab) -> None:
    x = example(3)
    inspection = lab.engine.inspect(QUESTION, ["a"], rows=3)
    results = lab.run(inspection, x, padding=np.nan)
    first, middle = 2 * x, np.moveaxis(2 * x, 0, 1)
    wanted = [first, first[:, 1:3, ::2], first[:, 2:4], first, middle, middle, np.sin(middle), np.sin(first)]
    assert len(results) == len(wanted) == len(inspection.results)
    for spec, result, want in zip(inspection.results, results, wanted, strict=True):
        if isinstance(result, SiteStatistics):
            assert result.mean == pytest.approx(want.mean(), rel=1e-4, abs=1e-6)
            assert (result.count, result.nan_count) == (want.size, 0)
        else:
            assert isinstance(result, np.ndarray)
            assert result.shape == spec.shape
            np.testing.assert_allclose(result, want, rtol=1e-6)


def test_starts_and_rows_do_not_cause_a_compile(lab: Lab) -> None:
    x = example(4)
    lab.capture("first", x=x, slices=[Slice(axis=2, start=0, stop=2)])
    before = len(lab.compiled)
    for start in range(1, 5):
        cut = Slice(axis=2, start=start, stop=start + 2)
        np.testing.assert_array_equal(lab.capture("first", x=x, slices=[cut])["first"], 2 * x[:, :, start : start + 2])
        np.testing.assert_array_equal(
            lab.capture("first", x=x[:2], slices=[cut])["first"], 2 * x[:2, :, start : start + 2]
        )
    assert len(lab.compiled) == before
    lab.capture("first", x=x, slices=[Slice(axis=2, start=0, stop=3)])  # another shape is another program
    assert len(lab.compiled) == before + 1


def test_starts_of_several_slices_do_not_change_places(lab: Lab) -> None:
    """The same cut at two places, asked in both orders."""
    x = example(4)
    cuts = [Slice(axis=1, start=3, stop=4), Slice(axis=1, start=1, stop=2)]
    for order in (cuts, cuts[::-1]):
        captures = [Capture(sites=("first",), slices=(cut,)) for cut in order]
        inspection = lab.engine.inspect(captures, [], rows=4)
        results = lab.run(inspection, x)
        for result, start in zip(results, (1, 3), strict=True):
            np.testing.assert_array_equal(result, 2 * x[:, start : start + 1])


def test_one_index_is_one_plan_whatever_the_step(lab: Lab) -> None:
    plans = {lab.inspect("first", slices=[Slice(axis=1, start=4, step=step)]).plan for step in (1, 2, 9, 2**40)}
    assert len(plans) == 1


cuts = st.dictionaries(
    st.integers(0, 2), st.tuples(st.integers(-6, 6), st.integers(-6, 6), st.integers(1, 3)), min_size=1
)


@settings(deadline=None, max_examples=25)
@given(cuts=cuts, site=st.sampled_from(["first", "middle"]), rows=st.integers(2, 4), negative=st.booleans())
def test_slices_are_numpys(
    cuts: dict[int, tuple[int, int, int]], site: str, rows: int, *, negative: bool, lab: Lab
) -> None:
    x = example(rows)
    whole = {"first": 2 * x, "middle": np.moveaxis(2 * x, 0, 1)}[site]
    slices = [
        Slice(axis=axis - 3 if negative else axis, start=start, stop=stop or None, step=step)
        for axis, (start, stop, step) in cuts.items()
    ]
    wanted = whole[tuple(_slice_of(cuts, axis) for axis in range(3))]
    inside = all(
        -whole.shape[axis] <= start < whole.shape[axis] and -whole.shape[axis] <= stop <= whole.shape[axis]
        for axis, (start, stop, _) in cuts.items()
    )
    if not inside or 0 in wanted.shape:
        with pytest.raises(InvalidRequestError, match="does not lie within axis"):
            lab.inspect(site, rows=rows, slices=slices)
        return
    result = lab.capture(site, x=x, padding=np.nan, slices=slices)[site]
    np.testing.assert_array_equal(result, wanted, strict=True)


def _slice_of(cuts: dict[int, tuple[int, int, int]], axis: int) -> slice:
    start, stop, step = cuts.get(axis, (0, 0, 1))
    return slice(start, stop or None, step)


def test_slices_of_the_batch_never_reach_the_padding(lab: Lab) -> None:
    x = example(3)
    for start, stop in ((0, 3), (1, 3), (-1, None), (0, 1)):
        cut = Slice(axis=0, start=start, stop=stop)
        captured = lab.capture("first", x=x, padding=np.nan, slices=[cut])["first"]
        np.testing.assert_array_equal(captured, 2 * x[start:stop])
        statistics = lab.capture("first", x=x, padding=np.nan, slices=[cut], reductions=[Statistics()])["first"]
        assert isinstance(statistics, SiteStatistics)
        assert (statistics.count, statistics.nan_count) == (x[start:stop].size, 0)
    with pytest.raises(
        InvalidRequestError, match="slice 0:4 does not lie within axis 0 of site 'first', whose size is 3"
    ):
        lab.inspect("first", rows=3, slices=[Slice(axis=0, start=0, stop=4)])


@pytest.mark.parametrize("padding", [0.0, 7.0, np.nan, np.inf])
@pytest.mark.parametrize("rows", [1, 2, 3])
def test_padding_changes_no_answer(rows: int, padding: float, lab: Lab) -> None:
    x = example(rows)
    for site, whole in (("first", 2 * x), ("middle", np.moveaxis(2 * x, 0, 1))):
        np.testing.assert_array_equal(lab.capture(site, x=x, padding=padding)[site], whole)
        statistics = lab.capture(site, x=x, padding=padding, reductions=[Statistics()])[site]
        assert isinstance(statistics, SiteStatistics)
        assert statistics.count == whole.size
        assert (statistics.zero_count, statistics.nan_count, statistics.inf_count) == (0, 0, 0)
        assert (statistics.min, statistics.max) == (whole.min(), whole.max())
        assert statistics.mean == pytest.approx(whole.mean(dtype=np.float64), rel=1e-5, abs=1e-7)
        assert statistics.std == pytest.approx(whole.std(dtype=np.float64), rel=1e-5)


@pytest.mark.parametrize(
    ("question", "error", "field", "message"),
    [
        (([], []), InvalidRequestError, "captures", "captures is empty; to run the network alone, call Predict"),
        (
            ([Capture(sites=("first",))], ["a", "d"]),
            InvalidRequestError,
            "outputs[1]",
            "no output 'd'; the outputs are a, b",
        ),
        (
            ([Capture(sites=("first",)), Capture(sites=("first", "nowhere"))], []),
            NotFoundError,
            "captures[1].sites[1]",
            "there is no site 'nowhere'",
        ),
        (
            ([Capture(sites=("first",), slices=(Slice(axis=1), Slice(axis=3)))], []),
            InvalidRequestError,
            "captures[0].slices[1]",
            "site 'first' has no axis 3: it has 3 axes",
        ),
        (
            ([Capture(sites=("first",), slices=(Slice(axis=-4),))], []),
            InvalidRequestError,
            "captures[0].slices[0]",
            "site 'first' has no axis -4",
        ),
        (
            ([Capture(sites=("first",), slices=(Slice(axis=1), Slice(axis=-2)))], []),
            InvalidRequestError,
            "captures[0].slices[1]",
            "axis 1 of site 'first' is sliced twice",
        ),
        (
            ([Capture(sites=("first",), slices=(Slice(axis=1, start=2, stop=9),))], []),
            InvalidRequestError,
            "captures[0].slices[0]",
            "slice 2:9 does not lie within axis 1 of site 'first', whose size is 5",
        ),
        (
            ([Capture(sites=("spectrum",), reductions=(Full(), Statistics()))], []),
            InvalidRequestError,
            "captures[0].reductions[1]",
            "site 'spectrum' is complex64, and statistics are of real values; capture it full",
        ),
        (
            ([Capture(sites=(f"f{index}*",)) for index in range(501)], []),
            LimitExceededError,
            "captures",
            "501 globs of",
        ),
    ],
)
def test_refusals(
    question: tuple[list[Capture], list[str]], error: type[FluoroscopeError], field: str, message: str, lab: Lab
) -> None:
    with pytest.raises(error, match=message) as caught:
        lab.engine.inspect(*question, rows=3)
    assert caught.value.field == field


def test_complex_values_are_captured_full(lab: Lab) -> None:
    x = example(3)
    np.testing.assert_allclose(
        np.asarray(lab.capture("spectrum", x=x)["spectrum"]), np.fft.rfft(2 * x), rtol=1e-4, atol=1e-4
    )


def test_byte_size(lab: Lab) -> None:
    inspection = lab.engine.inspect(
        [Capture(sites=("first",), reductions=(Full(), Statistics())), Capture(sites=("spectrum",))], ["a"], rows=3
    )
    sizes: dict[Any, int] = {(each.name, type(each.reduction)): each.byte_size for each in inspection.results}
    assert sizes == {
        ("first", Full): 3 * 5 * 6 * 4,
        ("first", Statistics): 0,
        ("spectrum", Full): 3 * 5 * 4 * 8,
        ("a", Full): 3 * 5 * 6 * 4,
    }
    assert inspection.byte_size == sum(sizes.values())


def test_what_is_asked_a_thousand_times_is_looked_for_once(lab: Lab) -> None:
    again = Capture(sites=("mi*", "first") * 9, reductions=(Statistics(), Full()) * 50)
    once = Capture(sites=("first", "mi*"), reductions=(Full(), Statistics()))
    assert lab.engine.inspect([again] * MOST_CAPTURES, [], rows=3) == lab.engine.inspect([once], [], rows=3)


def test_captures_that_ask_for_the_same_in_other_words_have_an_end(lab: Lab) -> None:
    histograms = tuple(Histogram(bins=3, low=float(low)) for low in range(100))
    captures = [Capture(sites=("first",) * (1 + index), reductions=histograms) for index in range(201)]
    assert len(lab.engine.inspect(captures[:200], [], rows=3).results) == 100
    with pytest.raises(
        LimitExceededError,
        match=r"more than 20,000 results, .* where what several captures ask for counts for each: choose",
    ) as caught:
        lab.engine.inspect(captures, [], rows=3)
    assert (caught.value.field, caught.value.reason) == ("captures", "TOO_MANY_RESULTS")


def test_check_outputs(lab: Lab) -> None:
    assert check_outputs(["c", "a", "c"], lab.engine.signature) == ("a", "c")
    assert check_outputs([], lab.engine.signature) == ()
    assert check_outputs(["a"] * 10_000, lab.engine.signature) == ("a",)
    with pytest.raises(InvalidRequestError, match="10,001 outputs are named; expected at most 10,000") as caught:
        check_outputs(["a"] * 10_001, lab.engine.signature)
    assert caught.value.field == "outputs"
