"""Statistics on the device, against NumPy in float64."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fluoroscope_server.engine import SiteStatistics, Statistics, ValueSpec
from fluoroscope_server.errors import InvalidRequestError
from fluoroscope_server.signature import BATCH

if TYPE_CHECKING:
    from collections.abc import Callable

NONE = jnp.zeros(0, jnp.float32)

compute = jax.jit(Statistics().compute)


def spec(site: str, dtype: Any) -> ValueSpec:
    return ValueSpec(site=site, dtype=np.dtype(dtype), shape=(BATCH, 3))


def on_device(array: np.ndarray, valid: np.ndarray | None = None) -> SiteStatistics:
    count = array.size if valid is None else int(np.broadcast_to(valid, array.shape).sum())
    arrays = compute(jnp.asarray(array), valid, NONE)
    return Statistics().read([np.asarray(each) for each in arrays], count)


def in_float64(array: np.ndarray) -> SiteStatistics:
    wide = array.astype(np.float64).ravel()
    finite = wide[np.isfinite(wide)]
    none = math.nan
    return SiteStatistics(
        count=wide.size,
        mean=finite.mean() if finite.size else none,
        std=finite.std() if finite.size else none,
        min=finite.min() if finite.size else none,
        max=finite.max() if finite.size else none,
        abs_max=np.abs(finite).max() if finite.size else none,
        l2_norm=float(np.linalg.norm(finite)),
        zero_count=int((wide == 0).sum()),
        nan_count=int(np.isnan(wide).sum()),
        inf_count=int(np.isinf(wide).sum()),
    )


def assert_close(mine: SiteStatistics, theirs: SiteStatistics, *, rel: float = 2e-6) -> None:
    """Asserts that counts are equal, and the rest to a few roundings of the greatest magnitude."""
    scale = 0.0 if math.isnan(theirs.abs_max) else theirs.abs_max
    exact = {"count", "zero_count", "nan_count", "inf_count"}
    for field in dataclasses.fields(SiteStatistics):
        got, want = getattr(mine, field.name), getattr(theirs, field.name)
        assert type(got) is (int if field.name in exact else float)
        if field.name in exact:
            assert got == want, field.name
        else:
            assert got == pytest.approx(want, rel=rel, abs=rel * scale, nan_ok=True), field.name


def normal(*shape: int, mean: float = 0.0, std: float = 1.0) -> np.ndarray:
    return np.random.default_rng(5).normal(mean, std, shape).astype(np.float32)


def with_values(array: np.ndarray, *values: float) -> np.ndarray:
    array = array.copy()
    array.flat[: len(values)] = values
    return array


LOWEST = float(np.finfo(np.float32).min)

CASES: dict[str, Callable[[], np.ndarray]] = {
    "normal": lambda: normal(7, 31),
    "one element": lambda: np.array([-3.5], np.float32),
    "scalar": lambda: np.array(2.5, np.float32),
    "constant": lambda: np.full((9, 11), 0.1, np.float32),
    "zeros": lambda: np.zeros((4, 4), np.float32),
    "negative zero": lambda: np.array([-0.0, 0.0, 1.0], np.float32),
    "negative": lambda: -np.abs(normal(5, 5)) - 1,
    "sparse": lambda: np.maximum(normal(20, 20), 0),
    "with NaN and Inf": lambda: with_values(normal(6, 6), math.nan, math.inf, -math.inf, math.nan, 0.0),
    "all NaN": lambda: np.full((3, 3), math.nan, np.float32),
    "all Inf": lambda: np.array([math.inf, -math.inf], np.float32),
    "one finite": lambda: with_values(np.full(9, math.nan, np.float32), 4.0),
    "no elements": lambda: np.zeros((0, 3), np.float32),
    "scores under a mask": lambda: with_values(normal(8, 8), *[LOWEST] * 20),
    "huge": lambda: np.full((16, 16), 3e38, np.float32),
    "huge of both signs": lambda: with_values(np.full(64, LOWEST, np.float32), *[-LOWEST] * 32),
    "tiny": lambda: normal(8, 8) * np.float32(1e-36),
    "wide range": lambda: np.float32(10) ** np.arange(-30, 30, dtype=np.float32),
}


@pytest.mark.parametrize("case", CASES)
def test_against_float64(case: str) -> None:
    array = CASES[case]()
    assert_close(on_device(array), in_float64(array))


@pytest.mark.parametrize("mean", [1e3, -1e5, 1e6])
def test_the_spread_around_a_large_mean_is_kept(mean: float) -> None:
    """The difference of squares would lose all of it."""
    array = normal(64, 64, mean=mean)
    mine, theirs = on_device(array), in_float64(array)
    assert mine.mean == pytest.approx(theirs.mean, rel=1e-6)
    assert mine.std == pytest.approx(theirs.std, rel=1e-3)


def test_many_elements() -> None:
    array = normal(1 << 20, mean=1.0)
    assert_close(on_device(array), in_float64(array), rel=1e-5)


def test_subnormal_numbers_are_themselves_or_zero() -> None:
    """CPUs are told to take them as zero, in the network itself too."""
    array = np.array([1e-40, -1e-41, 0, 1e-45], np.float32)
    found = on_device(array)
    assert found.zero_count in {1, 4}
    for value in (found.mean, found.std, found.min, found.max, found.abs_max, found.l2_norm):
        assert abs(value) <= 2e-40
    assert found.nan_count == found.inf_count == 0


@pytest.mark.parametrize(
    "dtype",
    [
        "bool",
        "int8",
        "uint8",
        "int16",
        "int32",
        "uint32",
        "int4",
        "float16",
        "bfloat16",
        "float8_e4m3fn",
        "float8_e5m2",
    ],
)
def test_other_types(dtype: str) -> None:
    array = np.random.default_rng(3).integers(0, 5, (6, 7)).astype(jnp.dtype(dtype))
    assert_close(on_device(array), in_float64(array))


def test_half_precision_does_not_overflow() -> None:
    array = np.full((100, 100), 60000, np.float16)
    found = on_device(array)
    assert found.mean == 60000
    assert found.std == 0
    assert found.l2_norm == pytest.approx(6e6)
    special = np.array([math.nan, math.inf, 1, 0], jnp.bfloat16)
    assert_close(on_device(special), in_float64(special))


@settings(deadline=None, max_examples=150)
@given(array=hnp.arrays(np.float32, st.just((4, 3)), elements=st.floats(width=32, allow_subnormal=False)))
def test_any_values(array: np.ndarray) -> None:
    mine, theirs = on_device(array), in_float64(array)
    assert_close(mine, dataclasses.replace(theirs, std=mine.std))
    if not math.isnan(theirs.std):
        assert mine.std == pytest.approx(theirs.std, rel=1e-5, abs=1e-6 * theirs.abs_max)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_one_that_is_not_finite_is_seen_wherever_it_is(value: float) -> None:
    """All others are finite: the quick way for these must not be taken."""
    array = normal(5, 37)
    for place in range(array.size):
        changed = array.copy()
        changed.flat[place] = value
        assert_close(on_device(changed), in_float64(changed))


@pytest.mark.parametrize("value", [1.0, math.nan])
@pytest.mark.parametrize("shape", [(3, 70_000), (300, 7), (3, 5, 7)])
def test_parts_of_real_rows_only(shape: tuple[int, ...], value: float) -> None:
    """A large row is several parts; of small rows with a NaN, several are looked at together."""
    array = with_values(normal(*shape, mean=3.0), value)
    array[-1] = math.inf
    valid = np.arange(shape[0]).reshape(-1, *[1] * (len(shape) - 1)) < shape[0] - 1
    assert_close(on_device(array, valid), in_float64(array[:-1]))
    turned = np.moveaxis(array, 0, -1).copy()
    assert_close(on_device(turned, np.moveaxis(valid, 0, -1)), in_float64(array[:-1]))


@settings(deadline=None, max_examples=60)
@given(
    array=hnp.arrays(np.float32, st.just((4, 3)), elements=st.floats(-100, 100, width=32, allow_subnormal=False)),
    rows=st.integers(0, 4),
    axis=st.integers(0, 1),
    padding=st.sampled_from([0.0, math.nan, math.inf, 1e38]),
)
def test_rows_that_are_not_valid_never_count(array: np.ndarray, rows: int, axis: int, padding: float) -> None:
    array = array if axis == 0 else array.T.copy()
    rows = min(rows, array.shape[axis])
    kept = array.take(range(rows), axis)
    padded = array.copy()
    padded[(slice(None),) * axis + (slice(rows, None),)] = padding
    valid = np.expand_dims(np.arange(array.shape[axis]) < rows, 1 - axis)
    assert_close(on_device(padded, valid), in_float64(kept))


def test_complex_values_are_refused() -> None:
    for dtype in (np.complex64, np.complex128):
        with pytest.raises(InvalidRequestError, match="statistics are of real values; capture it full") as caught:
            Statistics().check(spec("fft:0", dtype), field="captures[3].reductions")
        assert caught.value.field == "captures[3].reductions"
    for name in ("float32", "bfloat16", "int4", "bool"):
        Statistics().check(spec("x", jnp.dtype(name)), field="f")


def test_equal_ones_are_one() -> None:
    """They are part of a plan."""
    assert len({Statistics(), Statistics()}) == 1
    assert not Statistics().parts(spec("x", np.float32))


@pytest.mark.parametrize("shape", [(64, 4096), (7, 31_237), (3, 65_537), (1 << 18) + 1, (4, 3, 50_000)])
@pytest.mark.parametrize("mean", [0.0, 1e5])
def test_pieces_are_put_together(shape: int | tuple[int, ...], mean: float) -> None:
    """Large values are described piece by piece; whole pieces may hold nothing that counts."""
    array = np.random.default_rng(7).normal(mean, 1.0, shape).astype(np.float32)
    array.flat[::11] = [0.0, math.nan, math.inf, -math.inf][len(array.shape) % 4]
    rows = array.shape[0] // 2
    valid = None if array.ndim == 1 else (np.arange(array.shape[0]) < rows).reshape(-1, *[1] * (array.ndim - 1))
    kept = array if valid is None else array[:rows]
    mine, theirs = on_device(array, valid), in_float64(kept)
    assert_close(mine, dataclasses.replace(theirs, std=mine.std))
    assert mine.std == pytest.approx(theirs.std, rel=1e-4)
