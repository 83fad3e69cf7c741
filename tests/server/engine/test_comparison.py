"""Comparisons of two networks, or of one on two inputs, against what each of them captures alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.ad_checkpoint import checkpoint_name

from fluoroscope_server.engine import Side, SiteKind, Tolerance, pair, run_comparison
from fluoroscope_server.engine.comparison import _rising
from fluoroscope_server.errors import InvalidRequestError, NotCapturableError, NotFoundError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from tests.server.engine.conftest import Lab

    from fluoroscope_server.engine import Comparison, SiteDifference
    from fluoroscope_server.errors import FluoroscopeError

DEPTH = 24


def deep(variables: Any, inputs: dict[str, jax.Array]) -> Any:
    """A network of many layers, each of its own work, then a loop."""
    x = inputs["x"]
    for index in range(DEPTH):
        x = checkpoint_name(jnp.tanh(x @ variables[f"w{index:02}"]), f"layers/{index}")

    def body(carry: jax.Array, weight: jax.Array) -> tuple[jax.Array, None]:
        return checkpoint_name(jnp.tanh(carry @ weight), "looped"), None

    x, _ = jax.lax.scan(body, x, variables["loop"])
    return checkpoint_name(jnp.mean(x, axis=1), "mean")


def weights(seed: int = 0) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(seed)
    names = [f"w{index:02}" for index in range(DEPTH)]
    tree = {name: generator.normal(size=(4, 4)).astype(np.float32) for name in names}
    return {**tree, "loop": generator.normal(size=(3, 4, 4)).astype(np.float32)}


@pytest.fixture(scope="module")
def lab(function_lab: Callable[..., Lab]) -> Lab:
    return function_lab(deep, weights(), buckets=(2, 4))


@pytest.fixture(scope="module")
def changed(function_lab: Callable[..., Lab]) -> Lab:
    """The same network with other weights from its eleventh layer on, and other buckets."""
    tree = weights()
    tree["w10"] = tree["w10"] + np.float32(1e-2)
    return function_lab(deep, tree, buckets=(8,))


def run(
    left: Lab, right: Lab, x: np.ndarray, y: np.ndarray, *globs: str, tolerance: Tolerance | None = None, **more: Any
) -> tuple[Comparison, Iterator[SiteDifference]]:
    comparison = pair(left.engine, right.engine, globs or ("**",), more.pop("kinds", ()), rows=len(x))
    sides = [
        Side(
            engine=lab.engine,
            program=lab.program(inspection),
            inputs=[np.concatenate([each, np.full((inspection.plan.bucket - len(each), 4), np.nan, np.float32)])],
        )
        for lab, inspection, each in zip((left, right), comparison.inspections, (x, y), strict=True)
    ]
    differences = left.engine.differences(comparison.distinct).result(60)
    return comparison, run_comparison(comparison, (sides[0], sides[1]), differences, tolerance or Tolerance())


def compare(*args: Any, **more: Any) -> dict[str, SiteDifference]:
    comparison, found = run(*args, **more)
    compared = [each.left.path for each in comparison.sites if not each.reason]
    return dict(zip(compared, found, strict=True))


@pytest.mark.parametrize("rows", [1, 3, 4])
def test_two_inputs_of_one_network(rows: int, lab: Lab, batch: Callable[..., np.ndarray]) -> None:
    x = batch(rows)
    y = x + np.float32(0.01)
    found = compare(lab, lab, x, y)
    alone = [lab.capture("**", x=each) for each in (x, y)]
    assert list(found) == list(alone[0])
    assert {"layers/0", "scan:0[2]/looped", "mean"} <= set(found)
    for site, difference in found.items():
        a, b = (each[site].astype(np.float64) for each in alone)
        apart = np.abs(a - b)
        assert difference.count == a.size
        np.testing.assert_allclose(
            [difference.max_abs, difference.mean_abs, difference.rms],
            [apart.max(), apart.mean(), np.sqrt((apart**2).mean())],
            rtol=1e-3,
            atol=1e-7,
        )
        if np.abs(a).max() > 0:
            assert difference.cosine == pytest.approx((a * b).sum() / np.sqrt((a**2).sum() * (b**2).sum()), abs=1e-5)


def test_the_same_twice_has_the_same_bits(lab: Lab, batch: Callable[..., np.ndarray]) -> None:
    for difference in compare(lab, lab, batch(3), batch(3)).values():
        assert (difference.identical_count, difference.divergent_count) == (difference.count, 0)
        assert (difference.max_abs, difference.max_relative, difference.rms) == (0, 0, 0)


@pytest.mark.parametrize("atol", [0.0, 1e308])
def test_a_tolerance_that_float32_cannot_hold(lab: Lab, atol: float) -> None:
    x = np.zeros((2, 4), np.float32)
    y = np.asarray([[0.0] * 4, [1.0] * 4], np.float32)
    same = compare(lab, lab, x, x, "layers/*", tolerance=Tolerance(rtol=1e308, atol=atol))
    assert not any(each.divergent_count for each in same.values())
    (apart,) = compare(lab, lab, y, x, "layers/0", tolerance=Tolerance(rtol=1e308, atol=atol)).values()
    assert apart.divergent_count == (0 if atol else 4), "of a row, whose right element is zero"


def test_two_versions_part_where_their_weights_do(lab: Lab, changed: Lab, batch: Callable[..., np.ndarray]) -> None:
    x = batch(3)
    found = compare(lab, changed, x, x, "layers/*", "scan:0[?]/looped", tolerance=Tolerance(rtol=1e-4, atol=1e-5))
    divergent = [site for site, difference in found.items() if difference.divergent_count]
    assert list(found)[:DEPTH] == [f"layers/{index}" for index in range(DEPTH)]
    assert divergent[0] == "layers/10"
    assert all(found[f"layers/{index}"].max_abs < 1e-6 for index in range(10))
    wide = compare(lab, changed, x, x, "layers/*", tolerance=Tolerance(rtol=0, atol=10))
    assert not any(difference.divergent_count for difference in wide.values())


def test_no_more_than_two_stages_of_each_side_are_held(
    function_lab: Callable[..., Lab], batch: Callable[..., np.ndarray]
) -> None:
    features = 96
    tree = {name: np.resize(leaf, (*leaf.shape[:-2], features, features)) for name, leaf in weights().items()}
    wide = function_lab(deep, tree, inputs={"x": {"shape": [features]}})
    x = batch(4, features)
    comparison = pair(wide.engine, wide.engine, ["layers/*"], (), rows=4)
    program = wide.program(comparison.inspections[0])
    assert program.stage_count >= DEPTH
    differences = wide.engine.differences(comparison.distinct).result(60)
    side = Side(engine=wide.engine, program=program, inputs=[x])
    found = run_comparison(comparison, (side, side), differences, Tolerance())
    held = [sum(array.shape == (4, features) for array in jax.live_arrays()) for _ in found]
    assert len(held) == DEPTH
    assert max(held) <= 4


def variant(function_lab: Callable[..., Lab], *names: str, width: int = 4, dtype: Any = jnp.float32) -> Lab:
    """A network whose sites are `names`, computed in this order, the last `width` wide, and in a type of its own."""

    def network(_: object, inputs: dict[str, jax.Array]) -> dict[str, jax.Array]:
        outputs = {}
        x = inputs["x"]
        for name in names:
            x = jnp.sin(x)
            last = name == names[-1]
            outputs[name] = checkpoint_name((x[:, :width] if last else x).astype(dtype if last else x.dtype), name)
        outputs["wave"] = jnp.abs(checkpoint_name(jnp.fft.rfft(x), "spectrum"))
        return outputs

    return function_lab(network)


def reasons(left: Lab, right: Lab, *globs: str) -> dict[str, str]:
    return {each.left.path: each.reason for each in pair(left.engine, right.engine, globs, (), rows=2).sites}


def test_what_cannot_be_compared_is_listed_with_the_reason(function_lab: Callable[..., Lab]) -> None:
    left = variant(function_lab, "a", "b", "c", "d", "e")
    right = variant(function_lab, "a", "new", "c", "b", "d", "e", width=3)
    named = ("a", "b", "c", "d", "e", "new", "spectrum")
    assert reasons(left, right, *named) == {
        "a": "",
        "new": "only the right side has it",
        "b": "the two sides compute it in another order",
        "c": "",
        "d": "",
        "e": "it is float32[batch, 4] on the left side, and float32[batch, 3] on the right",
        "spectrum": "it is complex64 on the left side, and comparisons are of real values",
    }
    assert list(reasons(left, right, *named)) == ["a", "new", "b", "c", "d", "e", "spectrum"]
    assert reasons(right, left, "?", "new")["new"] == "only the left side has it"
    half = variant(function_lab, "a", "b", dtype=jnp.bfloat16)
    whole = variant(function_lab, "a", "b")
    assert reasons(whole, half, "b") == {"b": ""}
    x = np.ones((2, 4), np.float32)
    assert 0 < compare(whole, half, x, x, "b")["b"].max_relative < 2**-8
    integers = variant(function_lab, "a", "b", dtype=jnp.int32)
    with pytest.raises(NotCapturableError, match=r"'b', the first, because it is float32\[batch, 4\] on the left"):
        reasons(whole, integers, "b")


def test_a_longest_rising_subsequence() -> None:
    assert [_rising(numbers) for numbers in ([], [5], [3, 1, 2], [1, 2, 3], [9, 1, 8, 2, 3])] == [
        [],
        [0],
        [2, 1],
        [2, 1, 0],
        [4, 3, 1],
    ]


@pytest.mark.parametrize(
    ("globs", "kinds", "error", "field", "message"),
    [
        ([], (), InvalidRequestError, "sites", "sites is empty; name a site, or use the glob"),
        (["layers/0", "layers/99"], (), NotFoundError, "sites[1]", "no site 'layers/99'; nearest"),
        (["layer_*"], (), InvalidRequestError, "sites[0]", "matches none of the"),
        (["layers/0"], (SiteKind.MODULE,), InvalidRequestError, "sites[0]", "is of kind NAMED"),
    ],
)
def test_refusals(
    *,
    globs: Sequence[str],
    kinds: Sequence[SiteKind],
    error: type[FluoroscopeError],
    field: str,
    message: str,
    lab: Lab,
    changed: Lab,
) -> None:
    for right in (lab, changed):
        with pytest.raises(error, match=message) as caught:
            pair(lab.engine, right.engine, globs, kinds, rows=2)
        assert caught.value.field == field
