"""How far two values are apart: what NumPy says in float64, whatever the values and the padding."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as nps

from fluoroscope_server.engine import Tolerance
from fluoroscope_server.engine.difference import PairSpec, compile_differences, read_difference

if TYPE_CHECKING:
    from fluoroscope_server.engine import SiteDifference

LARGEST = float(np.finfo(np.float32).max)


def differ(
    a: np.ndarray, b: np.ndarray, *, rows: int = 0, axis: int | None = None, rtol: float = 1e-5, atol: float = 1e-8
) -> SiteDifference:
    """Compares on the device; with a batch axis, only `rows` are real."""
    spec = PairSpec(dtypes=(a.dtype, b.dtype), shapes=(a.shape, b.shape), batch_axis=axis)
    executable = compile_differences([spec]).executables[spec]
    tolerance = Tolerance(rtol=rtol, atol=atol)
    arrays = executable(a, b, np.int32(rows), np.asarray([tolerance.rtol, tolerance.atol], np.float32))
    size = a.size if axis is None else a.size // a.shape[axis] * rows
    return read_difference([np.asarray(array) for array in arrays], size)


def by_numpy(a: np.ndarray, b: np.ndarray, *, rtol: float = 1e-5, atol: float = 1e-8) -> dict[str, Any]:
    """The same in float64, with NumPy's own words where it has them."""
    same = int((a.view(f"u{a.itemsize}") == b.view(f"u{b.itemsize}")).sum()) if a.dtype == b.dtype else None
    a, b = a.astype(np.float64), b.astype(np.float64)
    finite = np.isfinite(a) & np.isfinite(b)
    x, y = a[finite], b[finite]
    apart = np.abs(x - y)
    nan = math.nan
    with np.errstate(divide="ignore", invalid="ignore"):
        relative = np.where(apart == 0, 0, apart / np.abs(y))
        norms = np.linalg.norm(x) * np.linalg.norm(y)
        return {
            "max_abs": apart.max() if x.size else nan,
            "max_relative": relative.max() if x.size else nan,
            "mean_abs": apart.mean() if x.size else nan,
            "rms": np.sqrt((apart**2).mean()) if x.size else nan,
            "cosine": x @ y / norms if norms else nan,
            "identical_count": same,
            "divergent_count": int((~np.isclose(a, b, rtol=rtol, atol=atol, equal_nan=True)).sum()),
            "nan_mismatch_count": int((np.isnan(a) != np.isnan(b)).sum()),
            "inf_mismatch_count": int(((np.isinf(a) | np.isinf(b)) & ~np.isnan(a) & ~np.isnan(b) & (a != b)).sum()),
        }


def agree(found: SiteDifference, want: dict[str, Any], *, rel: float = 1e-5) -> None:
    for name, value in want.items():
        if value is None:
            continue
        if name.endswith("count"):
            assert getattr(found, name) == value, name
        else:
            assert getattr(found, name) == pytest.approx(value, rel=rel, abs=1e-40, nan_ok=True), name


QUARTERS = st.integers(-40, 40).map(lambda number: number / 4)  # what float32 computes of these is exact
ELEMENTS = QUARTERS | st.sampled_from([math.nan, math.inf, -math.inf, 0.0, -0.0])
VALUES = nps.arrays(np.float32, (3, 7), elements=ELEMENTS)


@settings(deadline=None, max_examples=150)
@given(a=VALUES, b=VALUES, atol=st.sampled_from([0.0, 0.25, 3.0]), rtol=st.sampled_from([0.0, 0.125, 2.0]))
def test_numbers_are_those_of_numpy(a: np.ndarray, b: np.ndarray, atol: float, rtol: float) -> None:
    found = differ(a, b, atol=atol, rtol=rtol)
    agree(found, by_numpy(a, b, atol=atol, rtol=rtol))
    assert found.count == a.size


@settings(deadline=None, max_examples=30)
@given(a=VALUES, rows=st.integers(1, 3), padding=st.sampled_from([0.0, 5.0, math.nan, math.inf]))
def test_padded_rows_never_count(a: np.ndarray, rows: int, padding: float) -> None:
    b = a + np.float32(1)
    want = by_numpy(a[:rows], b[:rows])
    a[rows:], b[rows:] = padding, 1 - padding
    agree(differ(a, b, rows=rows, axis=0), want)
    larger = np.full((5, 7), padding, np.float32)  # the other side's bucket may be larger
    larger[:rows] = b[:rows]
    agree(differ(a, larger, rows=rows, axis=0), want)
    agree(differ(a.T.copy(), larger.T.copy(), rows=rows, axis=1), want)


@pytest.mark.parametrize("size", [(4, 64, 1024), (1, 100_003)])
@pytest.mark.parametrize("scale", [1.0, 1e-30, 1e36])
def test_large_values_keep_their_digits(size: tuple[int, ...], scale: float) -> None:
    generator = np.random.default_rng(0)
    a = (generator.normal(size=size, loc=3) * scale).astype(np.float32)
    b = (a * (1 + generator.normal(size=size, scale=1e-3))).astype(np.float32)
    found = differ(a, b, rtol=1e-3, atol=0)
    want = by_numpy(a, b, rtol=1e-3, atol=0)
    want["divergent_count"] = pytest.approx(want["divergent_count"], abs=5)  # those next to the edge
    agree(found, want)
    assert 0 < found.divergent_count < found.count


def test_values_at_the_ends_of_float32_do_not_overflow() -> None:
    a = np.array([LARGEST, -LARGEST, 1.0, 2.0], np.float32)
    b = np.array([-LARGEST, -LARGEST, 1.5, 2.0], np.float32)
    found = differ(a, b)
    assert found.max_abs == pytest.approx(2 * LARGEST)
    assert found.mean_abs == pytest.approx(LARGEST / 2, rel=1e-6)
    masked = differ(np.array([-LARGEST, 1.0], np.float32), np.array([-LARGEST, 1.5], np.float32))
    assert (masked.max_abs, masked.mean_abs) == (0.5, 0.25)  # a mask that is the same on both sides hides nothing


def test_zero_divided_by_zero_is_zero_and_anything_else_by_zero_is_infinite() -> None:
    zeros = np.zeros(3, np.float32)
    same = differ(zeros, zeros)
    assert (same.max_relative, same.divergent_count, same.identical_count) == (0.0, 0, 3)
    assert math.isnan(same.cosine)
    assert differ(np.array([0, 0, 1], np.float32), zeros).max_relative == math.inf
    signed = differ(zeros, -zeros)
    assert (signed.identical_count, signed.divergent_count) == (0, 0)


@pytest.mark.parametrize(
    "dtype", ["bfloat16", "float16", "float8_e4m3fn", "float8_e5m2", "int8", "uint8", "int32", "uint32", "bool", "int4"]
)
def test_every_type(dtype: str) -> None:
    kind = np.dtype(getattr(ml_dtypes, dtype, dtype))
    generator = np.random.default_rng(1)
    numbers = generator.integers(0, 2 if dtype == "bool" else 7, size=(2, 40))
    a, b = (each.astype(kind) for each in (numbers, np.roll(numbers, 1, axis=1)))
    agree(differ(a, b), by_numpy(a, b) if dtype != "int4" else by_numpy(a.astype(np.int8), b.astype(np.int8)))


def test_integers_are_subtracted_as_integers() -> None:
    a = np.array([2**31 - 1, -(2**31), 2**30 + 1], np.int32)
    b = np.array([-(2**31), 2**31 - 1, 2**30], np.int32)  # float32 holds neither of the last two, but their difference
    found = differ(a, b, rtol=0, atol=0.5)
    assert found.max_abs == pytest.approx(2**32 - 1)
    assert (found.divergent_count, found.identical_count) == (3, 0)
    assert differ(a[2:], b[2:], rtol=0, atol=0).max_abs == 1.0


def test_floats_of_other_types_are_compared_as_the_wider() -> None:
    a = np.array([1.0, 1 / 3, math.nan], np.float32)
    b = a.astype(ml_dtypes.bfloat16)
    found = differ(a, b)
    apart = abs(float(a[1]) - float(b[1]))
    assert found.max_abs == pytest.approx(apart)
    assert (found.identical_count, found.divergent_count, found.nan_mismatch_count) == (2, 1, 0)


def test_programs_are_shared_by_all_comparisons() -> None:
    spec = PairSpec(dtypes=(np.dtype("f4"),) * 2, shapes=((2, 3), (2, 3)), batch_axis=0)
    first, second = (compile_differences(frozenset([spec])).executables[spec] for _ in range(2))
    assert first is second
    assert differ(np.zeros((0,), np.float32), np.zeros((0,), np.float32)).count == 0
