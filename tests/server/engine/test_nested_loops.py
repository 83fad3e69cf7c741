"""Loops within loops: the values of each iteration of each are those of the same network written out, in NumPy."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.ad_checkpoint import checkpoint_name

from fluoroscope_server.engine import Capture, Execution, Full, Mean, SiteKind, Slice, Statistics

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tests.server.engine.conftest import Lab


WAYS = [Execution.FUSED, Execution.STAGED]


class Nest:
    """Scans within scans, some of them backwards: the last carry and the ys of each are needed behind it."""

    def __init__(self, *lengths: int, backwards: Sequence[int] = ()) -> None:
        self.lengths, self.backwards = lengths, backwards
        self.weights = np.random.default_rng(0).normal(size=(*lengths, 4)).astype(np.float32)

    def __call__(self, variables: Any, inputs: dict[str, jax.Array]) -> Any:
        return self._run(inputs["x"], variables["w"], 0)

    def _run(self, carry: jax.Array, weights: jax.Array, depth: int) -> jax.Array:
        def body(carry: jax.Array, own: jax.Array) -> Any:
            mean = jnp.mean(own.reshape(-1, 4), axis=0)
            carry = checkpoint_name(jnp.tanh(carry + mean[None]), "before")
            if depth + 1 < len(self.lengths):
                carry = self._run(carry, own, depth + 1)
            carry = checkpoint_name(carry * 0.9, "after")
            return carry, carry * 2.0

        with jax.named_scope(f"level{depth}"):
            carry, ys = jax.lax.scan(body, carry, weights, reverse=depth in self.backwards)
        behind: jax.Array = carry + 0.1 * ys[0]
        return behind

    def written_out(self, x: np.ndarray) -> dict[str, np.ndarray]:
        """Returns every named value, in the order in which they are computed, in float64."""
        found: dict[str, np.ndarray] = {}
        self._write(x.astype(np.float64), self.weights.astype(np.float64), "level0", found)
        return found

    def _write(self, carry: np.ndarray, weights: np.ndarray, path: str, found: dict[str, np.ndarray]) -> np.ndarray:
        depth, ys = path.count("/"), {}
        order = range(len(weights))
        for index in reversed(order) if depth in self.backwards else order:
            own = f"{path}[{index}]"
            carry = found[f"{own}/before"] = np.tanh(carry + weights[index].reshape(-1, 4).mean(0))
            if depth + 1 < len(self.lengths):
                carry = self._write(carry, weights[index], f"{own}/level{depth + 1}", found)
            carry = found[f"{own}/after"] = carry * 0.9
            ys[index] = carry * 2
        return carry + 0.1 * ys[0]


NESTS = [Nest(2, 5, backwards=[1]), Nest(5, 2, backwards=[0]), Nest(2, 1, 2, backwards=[2])]


@pytest.fixture(scope="module", params=NESTS, ids=lambda nest: "x".join(map(str, nest.lengths)))
def nest(request: pytest.FixtureRequest) -> Nest:
    found: Nest = request.param
    return found


@pytest.fixture(scope="module")
def lab(nest: Nest, function_lab: Callable[..., Lab]) -> Lab:
    return function_lab(nest, {"w": nest.weights})


def stacked(path: str, values: dict[str, np.ndarray]) -> np.ndarray:
    """Returns the value of a site, of which some loops are stacked."""
    before, found, after = path.partition("[*]")
    if not found:
        return values[path]
    count = sum(f"{before}[{index}]" in "\n".join(values) for index in range(10))
    return np.stack([stacked(f"{before}[{index}]{after}", values) for index in range(count)])


def test_every_iteration_of_each_loop_has_sites_and_so_have_they_stacked(lab: Lab, nest: Nest) -> None:
    values = nest.written_out(np.ones((4, 4), np.float32))
    named = [site for site in lab.engine.sites if site.kind is SiteKind.NAMED]
    assert [site.path for site in named if "*" not in site.path] == list(values)
    levels = range(len(nest.lengths))
    assert len(named) == 2 * sum(np.prod([size + 1 for size in nest.lengths[: level + 1]]) for level in levels)
    for site in named:
        shape = stacked(site.path, values).shape
        assert site.shape == (*shape[:-2], -1, 4)
        assert not site.reason


@settings(deadline=None, max_examples=6)
@given(data=st.data())
def test_any_iterations_in_any_way(data: st.DataObject, lab: Lab, nest: Nest) -> None:
    """Alone, several, stacked in one loop or another, cut, reduced, with rows that only fill the bucket."""
    rows = data.draw(st.integers(1, 4))
    x = np.random.default_rng(rows).normal(size=(rows, 4)).astype(np.float32)
    values = nest.written_out(x)
    paths = [site.path for site in lab.engine.sites if site.kind is SiteKind.NAMED]
    wanted = data.draw(st.lists(st.sampled_from(paths), min_size=1, max_size=6, unique=True))
    start = data.draw(st.integers(0, 2))
    execution = data.draw(st.sampled_from(WAYS))
    reduction: Any = data.draw(st.sampled_from([Full(), Mean()]))
    capture = Capture(sites=tuple(wanted), slices=(Slice(axis=-1, start=start),), reductions=(reduction,))
    inspection = lab.engine.inspect([capture], [], rows=rows, execution=execution)
    results = lab.run(inspection, x, padding=1e9)
    assert {spec.name for spec in inspection.results} == set(wanted)
    for spec, result in zip(inspection.results, results, strict=True):
        want = stacked(spec.name, values)[..., start:]
        np.testing.assert_allclose(
            np.asarray(result), want if reduction == Full() else want.mean(), rtol=1e-4, atol=1e-5
        )


@pytest.mark.parametrize("execution", WAYS)
def test_statistics(lab: Lab, nest: Nest, execution: Execution) -> None:
    x = np.random.default_rng(3).normal(size=(3, 4)).astype(np.float32)
    values = nest.written_out(x)
    deepest = max(values, key=lambda path: path.count("/"))
    globs = ["/".join(segment.partition("[")[0] + "[?]" for segment in deepest.split("/")[:-1]) + "/before"]
    captured = lab.capture(*globs, x=x, padding=1e9, reductions=[Statistics()], execution=execution)
    assert len(captured) == np.prod(nest.lengths)
    for path, found in captured.items():
        want = values[path]
        assert (found.count, found.nan_count) == (want.size, 0)
        numbers, exact = (found.mean, found.std, found.max), (want.mean(), want.std(), want.max())
        np.testing.assert_allclose(numbers, exact, rtol=1e-4, atol=1e-5)


def test_globs_choose_the_iterations_of_all_loops(lab: Lab, nest: Nest) -> None:
    x = np.ones((4, 4), np.float32)
    values = nest.written_out(x)
    captured = lab.capture("**", x=x, kinds=[SiteKind.NAMED], execution=Execution.STAGED)
    assert list(captured) == list(values)
    for path, value in captured.items():
        np.testing.assert_allclose(value, values[path], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("execution", WAYS)
def test_slices_that_start_elsewhere_in_each_iteration(function_lab: Callable[..., Lab], execution: Execution) -> None:
    """One piece of program reduces all iterations of both loops; where a slice starts is an argument of each."""
    nest = Nest(6, 5)
    lab, x = function_lab(nest, {"w": nest.weights}), np.ones((4, 4), np.float32)
    values = nest.written_out(x)
    captures = [
        Capture(sites=(path,), slices=(Slice(axis=1, start=place % 3, stop=place % 3 + 2),))
        for place, path in enumerate(values)
        if path.endswith("before")
    ]
    inspection = lab.engine.inspect(captures, [], rows=4, execution=execution)
    assert len({captured.cuts for captured in inspection.plan.captured}) == 1
    for spec, value in zip(inspection.results, lab.run(inspection, x), strict=True):
        start = list(values).index(spec.name) % 3
        np.testing.assert_allclose(np.asarray(value), values[spec.name][:, start : start + 2], rtol=1e-4, atol=1e-5)


def test_the_operations_are_those_up_to_the_iteration(function_lab: Callable[..., Lab]) -> None:
    """Each inner iteration costs the same, and what is behind it in either loop is not counted."""
    nest = Nest(3, 4)
    lab = function_lab(nest, {"w": nest.weights}, buckets=(2, 4))  # sites are counted at the largest of several
    paths = [f"level0[{outer}]/level1[{inner}]/before" for outer, inner in itertools.product(range(3), range(4))]
    flops = [lab.engine.cost(lab.inspect(path)).flops for path in paths]
    inner = {later - sooner for at, (sooner, later) in enumerate(itertools.pairwise(flops)) if (at + 1) % 4}
    outer = {flops[at + 4] - flops[at] for at in range(8)}
    assert (len(inner), len(outer)) == (1, 1)
    assert 0 < 4 * min(inner) < min(outer) < 6 * min(inner)
    fractions = [lab.engine.sites[path].flops_fraction for path in paths]
    assert fractions == pytest.approx([lab.engine.cost(lab.inspect(path)).fraction for path in paths])


def test_neither_loop_runs_further_than_wanted(function_lab: Callable[..., Lab]) -> None:
    """Measured in inner iterations that a callback counts: the compiler cannot drop those that must not run."""
    ran: list[tuple[int, int]] = []

    def network(_: Any, inputs: dict[str, jax.Array]) -> Any:
        def inner(carry: Any, place: jax.Array) -> Any:
            outer, x = carry

            def count(value: np.ndarray, outer: np.ndarray, place: np.ndarray) -> np.ndarray:
                ran.append((int(outer), int(place)))
                return np.asarray(value)

            x = jax.pure_callback(count, jax.ShapeDtypeStruct(x.shape, x.dtype), x * 2.0, outer, place)
            return (outer, checkpoint_name(x, "doubled")), None

        def outer(carry: jax.Array, place: jax.Array) -> Any:
            (_, carry), _ = jax.lax.scan(inner, (place, carry), jnp.arange(3))
            return carry, None

        return jax.lax.scan(outer, inputs["x"], jnp.arange(4))[0]

    lab, x = function_lab(network), np.ones((4, 4), np.float32)
    (site,) = [site.path for site in lab.engine.sites if site.path.endswith("[2]/scan:0[1]/doubled")]
    for execution in WAYS:
        ran.clear()
        captured = lab.capture(site, x=x, execution=execution)
        np.testing.assert_array_equal(captured[site], x * 2**8)
        assert ran == [*itertools.product(range(2), range(3)), (2, 0), (2, 1)]


class Inner(nn.Module):
    """A layer of an inner scan."""

    @nn.compact
    def __call__(self, x: jax.Array, _: Any = None) -> Any:
        return x + nn.tanh(nn.Dense(4, name="mlp")(x)), None


class Outer(nn.Module):
    """A layer of an outer scan: a module, and an inner scan."""

    @nn.compact
    def __call__(self, x: jax.Array, _: Any = None) -> Any:
        x = nn.Dense(4, name="mix")(x)
        scanned = nn.scan(Inner, variable_axes={"params": 0}, split_rngs={"params": True}, length=2)
        return scanned(name="inner")(x, None)


class Stack(nn.Module):
    """Scanned layers that scan layers of their own."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        scanned = nn.scan(Outer, variable_axes={"params": 0}, split_rngs={"params": True}, length=3)
        found: jax.Array = scanned(name="layers")(x, None)[0]
        return found


@pytest.mark.parametrize("execution", WAYS)
def test_modules_of_linen(execution: Execution, linen_lab: Callable[..., Lab]) -> None:
    lab, x = linen_lab(Stack()), np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
    params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), lab.variables["params"]["layers"])
    expected, carry = {}, x.astype(np.float64)
    for outer in range(3):
        carry = expected[f"layers[{outer}]/mix"] = carry @ params["mix"]["kernel"][outer] + params["mix"]["bias"][outer]
        for inner in range(2):
            weights = {name: leaf[outer, inner] for name, leaf in params["inner"]["mlp"].items()}
            value = carry @ weights["kernel"] + weights["bias"]
            expected[f"layers[{outer}]/inner[{inner}]/mlp"] = value
            carry = expected[f"layers[{outer}]/inner[{inner}]"] = carry + np.tanh(value)
        expected[f"layers[{outer}]"] = carry
    captured = lab.capture("layers**", "layers**/**", x=x, padding=1e9, kinds=[SiteKind.MODULE], execution=execution)
    assert list(captured) == list(expected)
    for path, value in captured.items():
        np.testing.assert_allclose(value, expected[path], rtol=1e-4, atol=1e-5)
    names = ["layers[*]/inner[*]/mlp", "layers[2]/inner[*]/mlp", "layers[*]/inner[1]/mlp"]
    captured = lab.capture(*names, x=x, padding=1e9, execution=execution)
    for path in names:
        np.testing.assert_allclose(captured[path], stacked(path, expected), rtol=1e-4, atol=1e-5)


def test_a_long_inner_loop_is_listed_stacked_only(function_lab: Callable[..., Lab]) -> None:
    """The outer keeps its iterations."""

    def network(_: Any, inputs: dict[str, jax.Array]) -> Any:
        def inner(carry: jax.Array, _: Any) -> Any:
            return checkpoint_name(carry + 1.0, "count"), None

        def outer(carry: jax.Array, _: Any) -> Any:
            return jax.lax.scan(inner, carry, length=9_000)[0] * 0.0, None

        return jax.lax.scan(outer, inputs["x"], length=3)[0]

    lab = function_lab(network)
    named = [site.path for site in lab.engine.sites if site.kind is SiteKind.NAMED]
    assert named == [f"scan:0[{outer}]/scan:0[*]/count" for outer in (0, 1, 2, "*")]
    x = np.ones((4, 4), np.float32)
    captured = lab.capture("**", x=x, kinds=[SiteKind.NAMED], slices=[Slice(axis=0, start=17, stop=18)])
    assert list(captured) == named[:3]
    np.testing.assert_array_equal(captured[named[0]], x[None] + 18)
    np.testing.assert_array_equal(captured[named[2]], 0 * x[None] + 18)
