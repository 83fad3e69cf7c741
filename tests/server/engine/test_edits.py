"""Edits: the network goes on with what is written, as the same network does that was instrumented by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import numpy as np
import pytest
from jax.ad_checkpoint import checkpoint_name

from fluoroscope_server.engine import (
    Add,
    Capture,
    Edit,
    Execution,
    MeanAblate,
    PatchFromInputs,
    PatchFromRow,
    Scale,
    Set,
    SiteKind,
    Slice,
    Zero,
    common,
)
from fluoroscope_server.errors import InvalidRequestError, LimitExceededError, NotFoundError

from .instrumented import Stack, as_float64, by_hand

if TYPE_CHECKING:
    from collections.abc import Callable

    import jax
    from tests.server.engine.conftest import Lab

    from fluoroscope_server.engine import Change
    from fluoroscope_server.errors import FluoroscopeError

BOTH = pytest.mark.parametrize("execution", [Execution.FUSED, Execution.STAGED])
ROWS = 3
MODULES = [SiteKind.MODULE]


@pytest.fixture(scope="module")
def stack(linen_lab: Callable[..., Lab]) -> Lab:
    return linen_lab(Stack(), buckets=(1, 4))


def array(*numbers: Any) -> np.ndarray:
    return np.array(numbers, np.float32)


def edit(*sites: str, change: Change, **where: Any) -> Edit:
    return Edit(sites=sites, change=change, **{name: tuple(each) for name, each in where.items()})


def compare(lab: Lab, x: np.ndarray, edits: list[Edit], by: Callable[[str, Any], Any], execution: Execution) -> None:
    """Asserts that every module has the value that it has by hand, whatever is in rows that only fill the bucket."""
    expected = by_hand(as_float64(lab.variables), x.astype(np.float64), by)
    question: dict[str, Any] = {"kinds": MODULES, "outputs": ["output"], "edits": edits, "execution": execution}
    captured = lab.capture("**", x=x, padding=1e9, **question)
    assert captured.keys() - {"output"} == {path for path in expected if "relu" not in path}
    for path, value in captured.items():
        np.testing.assert_allclose(
            value, expected["head" if path == "output" else path], rtol=1e-4, atol=1e-5, err_msg=path
        )


def at(*paths: str, change: Callable[[Any], Any]) -> Callable[[str, Any], Any]:
    return lambda path, value: change(value) if path in paths else value


def written(part: Any, change: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def write(value: Any) -> Any:
        new = value.copy()
        new[part] = change(value)[part]
        return new

    return write


CHANGES: dict[str, tuple[Change, Callable[[Any], Any]]] = {
    "zero": (Zero(), np.zeros_like),
    "set": (Set(value=array(0.5)), lambda value: np.full_like(value, 0.5)),
    "add": (Add(value=array(-1.5)), lambda value: value - 1.5),
    "scale": (Scale(factor=array(-2.0)), lambda value: value * -2),
    "mean": (MeanAblate(), lambda value: np.broadcast_to(value.mean(0), value.shape)),
    "row": (PatchFromRow(sources=(1,)), lambda value: np.broadcast_to(value[1], value.shape)),
}
WHERE: dict[str, tuple[dict[str, Any], Any]] = {
    "all": ({}, np.s_[:]),
    "rows": ({"rows": [2, -3]}, np.s_[[2, 0]]),
    "units": ({"units": [3, 1]}, np.s_[:, [3, 1]]),
    "slice": ({"slices": [Slice(axis=-1, start=1, step=2)], "rows": [1]}, np.s_[1:2, 1::2]),
}


@pytest.mark.parametrize(("outside", "inside"), [("all", "rows"), ("units", "slice")])
@pytest.mark.parametrize("change", CHANGES)
def test_every_change_outside_of_loops_and_in_them(
    stack: Lab, batch: Callable[..., np.ndarray], change: str, outside: str, inside: str
) -> None:
    made, by = CHANGES[change]
    places = {"relu:0": WHERE[outside], "layers[2]/down": WHERE[inside]}
    edits = [edit(path, change=made, **chosen) for path, (chosen, _) in places.items()]

    def hand(path: str, value: Any) -> Any:
        return written(places[path][1], by)(value) if path in places else value

    compare(stack, batch(ROWS), edits, hand, Execution.FUSED)


@BOTH
@pytest.mark.parametrize("alone", [False, True])
def test_patches_from_other_inputs(
    stack: Lab, batch: Callable[..., np.ndarray], alone: bool, execution: Execution
) -> None:
    """The network runs on them unedited, whatever is edited besides."""
    other = batch(4)[: 1 if alone else ROWS]
    clean = by_hand(as_float64(stack.variables), other.astype(np.float64))
    change = PatchFromInputs(inputs={"x": other})
    edits = [
        edit("embed", change=Zero(), units=[0]),
        edit("layers[1]/down", "relu:0", change=change, units=[2, 3]),
        edit("layers[3]", change=change, rows=[1]),
    ]

    def hand(path: str, value: Any) -> Any:
        parts: dict[str, Any] = {"embed": np.s_[:, 0], "layers[3]": np.s_[1:2]}
        new, part = value.copy(), parts.get(path, np.s_[:, 2:])
        if path in {"embed", "layers[1]/down", "relu:0", "layers[3]"}:
            new[part] = 0 if path == "embed" else np.broadcast_to(clean[path], value.shape)[part]
        return new

    compare(stack, batch(ROWS), edits, hand, execution)


def test_a_patch_runs_no_further_than_its_site(stack: Lab, batch: Callable[..., np.ndarray]) -> None:
    change = PatchFromInputs(inputs={"x": batch(4)})

    def flops(*sites: str, edits: list[Edit] = []) -> float:  # noqa: B006  # nobody changes it
        return stack.engine.cost(stack.inspect(*sites, edits=edits)).flops

    assert flops("embed", edits=[edit("embed", change=change)]) == flops("embed")  # the value itself is not needed
    assert flops("head", edits=[edit("embed", change=change)]) == flops("head")
    assert flops("embed", edits=[edit("head", change=change)]) == flops("embed")
    assert flops("head", edits=[edit("layers[3]", change=change)]) == flops("layers[3]") + flops("head")


@BOTH
def test_the_values_of_all_iterations_are_one_array(
    stack: Lab, batch: Callable[..., np.ndarray], execution: Execution
) -> None:
    """The first axis of a stacked site are the iterations; a glob means each by itself."""
    steering = np.random.default_rng(5).normal(size=(2, 1, 4)).astype(np.float32)
    edits = [
        edit("layers[*]", change=Add(value=steering), slices=[Slice(axis=0, start=1, stop=3)]),
        edit("layers[?]/up", change=Scale(factor=array(0.5))),
    ]

    def hand(path: str, value: Any) -> Any:
        factors = 0.5 if path.endswith("/up") else 1.0
        return value * factors + (steering[int(path[7]) - 1] if path in {"layers[1]", "layers[2]"} else 0)

    compare(stack, batch(ROWS), edits, hand, execution)


@BOTH
def test_edits_of_one_value_are_applied_in_order(
    stack: Lab, batch: Callable[..., np.ndarray], execution: Execution
) -> None:
    """By whichever of its names: the root's output is the head's. Sites see what all of them left."""
    x = batch(ROWS)
    add, scale = Add(value=array(1, 2, 3)), Scale(factor=array(10))
    edits = [edit("__call__", change=add), edit("head", change=scale), edit("__call__", "head", change=add)]
    compare(stack, x, edits, at("head", change=lambda value: (value + array(1, 2, 3)) * 10 + array(1, 2, 3)), execution)
    inspection = stack.inspect("head", "__call__", "embed", rows=ROWS, edits=edits)
    assert [spec.edits for spec in inspection.results] == [(), (0, 1, 2), (0, 1, 2)]
    inspection = stack.inspect("layers[1]", "layers[2]", "layers[*]", edits=[edit("layers[2]", change=Zero())])
    assert [spec.edits for spec in inspection.results] == [(), (0,), (0,)]


def test_staged_has_the_bits_of_fused(stack: Lab, batch: Callable[..., np.ndarray]) -> None:
    x = batch(ROWS)
    edits = [
        edit("embed", change=Scale(factor=array(3.0, 1.0, -1.0, 0.1))),
        edit("layers[?]/up", change=MeanAblate(), units=[1, 2]),
        edit("layers[2]", change=PatchFromInputs(inputs={"x": batch(4)[:1]}), rows=[0]),
    ]
    fused, staged = (
        stack.capture("**", x=x, edits=edits, outputs=["output"], execution=execution)
        for execution in (Execution.FUSED, Execution.STAGED)
    )
    assert list(fused) == list(staged)
    for path, value in fused.items():
        np.testing.assert_array_equal(staged[path], value, strict=True, err_msg=path)


def test_an_edit_that_changes_nothing_changes_no_bit(stack: Lab, batch: Callable[..., np.ndarray]) -> None:
    x = batch(4)
    plain = stack.capture("**", x=x, kinds=MODULES)
    same = stack.capture("**", x=x, kinds=MODULES, edits=[edit("**", change=Scale(factor=array(1.0)), kinds=MODULES)])
    for path, value in plain.items():
        np.testing.assert_array_equal(same[path], value, strict=True, err_msg=path)


def test_other_values_are_the_same_program(stack: Lab, batch: Callable[..., np.ndarray]) -> None:
    """What is written, where, of which rows, and in which iteration of a loop: one program for all of it."""

    def edits(layer: int, row: int, units: list[int], value: np.ndarray) -> list[Edit]:
        return [
            edit(f"layers[{layer}]/down", change=Set(value=value), rows=[row], units=units),
            edit("embed", change=PatchFromRow(sources=(row,)), slices=[Slice(axis=1, start=layer)]),
            edit("head", change=PatchFromInputs(inputs={"x": batch(ROWS) + row})),
        ]

    first = stack.inspect("__call__", rows=ROWS, edits=edits(0, 1, [2, 3], array(1, 2)))
    second = stack.inspect("__call__", rows=ROWS, edits=edits(3, 2, [0, 1], array(7, 8)))
    third = stack.inspect("__call__", rows=4, edits=edits(1, 3, [0, 1], array(7, 8))[:2])
    assert first.plan == second.plan != third.plan
    stack.run(first, batch(ROWS))
    compiled = len(stack.compiled)
    x = batch(ROWS)
    (value,) = stack.run(second, x)
    assert len(stack.compiled) == compiled
    expected = by_hand(as_float64(stack.variables), (x + 2).astype(np.float64))
    np.testing.assert_allclose(np.asarray(value), expected["head"], rtol=1e-4, atol=1e-5)


def test_the_order_of_edits_of_different_values_makes_no_other_plan(stack: Lab) -> None:
    edits = [edit("head", change=Zero()), edit("layers[1]", change=Zero()), edit("embed", change=Zero())]
    plans = {stack.inspect("__call__", edits=each).plan for each in (edits, edits[::-1])}
    assert len(plans) == 1
    assert not stack.inspect("__call__").plan.edits


def test_an_edited_inspection_is_joined_with_no_other(stack: Lab) -> None:
    """What is written, and where, is one for all rows of a batch."""
    assert common(stack.inspect("head")) is not None
    assert common(stack.inspect("head", edits=[edit("embed", change=Zero())])) is None


WRONG: dict[str, tuple[Edit, type[FluoroscopeError], str]] = {
    "no such site": (edit("Dense_7", change=Zero()), NotFoundError, "no site 'Dense_7'; nearest"),
    "no match": (edit("conv*", change=Zero()), InvalidRequestError, "matches none of the"),
    "vector of another size": (
        edit("embed", change=Add(value=array(1, 2, 3))),
        InvalidRequestError,
        r"value has shape \(3,\), and what is edited of site 'embed' has shape \(3, 4\): it must have that shape",
    ),
    "vector of another size than the units": (
        edit("embed", change=Set(value=array(1, 2, 3, 4)), units=[0, 1]),
        InvalidRequestError,
        r"has shape \(4,\), and what is edited of site 'embed' has shape \(3, 2\)",
    ),
    "row": (edit("embed", change=Zero(), rows=[3]), InvalidRequestError, "3 is out of range: the batch has 3 rows"),
    "source": (edit("embed", change=PatchFromRow(sources=(-4,))), InvalidRequestError, "-4 is out of range"),
    "sources": (edit("embed", change=PatchFromRow(sources=(0, 1))), InvalidRequestError, "2 rows .* for 3 edited"),
    "unit": (edit("embed", change=Zero(), units=[4]), InvalidRequestError, "site 'embed' has 4 units, 0 to 3"),
    "unit twice": (edit("embed", change=Zero(), units=[1, -3]), InvalidRequestError, "1 is named twice"),
    "axis twice": (
        edit("embed", change=Zero(), units=[1], slices=[Slice(axis=-1)]),
        InvalidRequestError,
        "axis 1 of site 'embed' is chosen from twice",
    ),
    "axis": (edit("embed", change=Zero(), slices=[Slice(axis=2)]), InvalidRequestError, "has no axis 2: it has 2 axes"),
    "slice": (edit("embed", change=Zero(), slices=[Slice(axis=1, stop=9)]), InvalidRequestError, "does not lie within"),
    "complex": (
        edit("embed", change=Set(value=np.array(1j))),
        InvalidRequestError,
        "value is complex128, and site 'embed' is float32: it cannot hold complex128 values; give float32",
    ),
    "too large": (
        edit("embed", change=Set(value=np.array(1e300))),
        InvalidRequestError,
        "cannot hold what is as large",
    ),
    "two names": (
        edit("layers[*]", "layers[1]", change=Zero()),
        InvalidRequestError,
        r"names 'layers\[1\]' and 'layers\[\*\]', which are the same value: name one",
    ),
    "glob": (edit("*", change=Add(value=array(*range(7)))), InvalidRequestError, r"value has shape \(7,\)"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_wrong_edits(stack: Lab, wrong: str) -> None:
    given, error, message = WRONG[wrong]
    with pytest.raises(error, match=message) as raised:
        stack.inspect("__call__", rows=ROWS, edits=[edit("embed", change=Zero()), given])
    assert (raised.value.field or "").startswith("edits[1]")


def test_a_glob_leaves_out_what_cannot_be_edited_so(stack: Lab) -> None:
    """A vector of three units fits the head alone."""
    inspection = stack.inspect("*", kinds=MODULES, edits=[edit("*", change=Add(value=array(1, 2, 3)), kinds=MODULES)])
    assert {spec.name for spec in inspection.results if spec.edits} == {"head", "__call__"}


def test_edits_of_many_sites_have_an_end(stack: Lab) -> None:
    count = len(stack.engine.inspect([Capture(sites=("**",))], [], rows=ROWS).results)
    edits = [edit("**", change=Zero())] * (1 + 5_000 // count)
    with pytest.raises(
        LimitExceededError, match=r"the edits mean 5,\d+ sites or more, and the limit is 5,000"
    ) as caught:
        stack.engine.inspect([Capture(sites=("**",))], [], rows=ROWS, edits=edits)
    assert (caught.value.field, caught.value.reason) == ("edits", "TOO_MANY_EDITS")


def test_sites_of_other_numbers(function_lab: Callable[..., Lab], batch: Callable[..., np.ndarray]) -> None:
    """Integers stay integers, truth values have no arithmetic, and what is the same for any batch has no rows."""

    def network(variables: Any, inputs: dict[str, jax.Array]) -> Any:
        count = checkpoint_name((inputs["x"] > 0).astype(jnp.int8), "count")
        truth = checkpoint_name(inputs["x"] > 1, "truth")
        weight = checkpoint_name(variables["w"], "weight")
        given = checkpoint_name(inputs["x"], "given")
        constant = checkpoint_name(jnp.float32(3), "constant")
        return given * weight[None] + count.astype(jnp.float32) + jnp.where(truth, constant, 0.0)

    w = np.arange(4, dtype=np.float32)
    lab, x = function_lab(network, {"w": w}), batch(4)

    def output(*edits: Edit) -> np.ndarray:
        (value,) = lab.run(lab.inspect("given", outputs=["output"], edits=edits), x)[1:]
        return np.asarray(value)

    plain = x * w + (x > 0) + 3.0 * (x > 1)
    np.testing.assert_allclose(
        output(edit("count", change=Scale(factor=np.array(-2)))), plain - 3.0 * (x > 0), rtol=1e-5
    )
    np.testing.assert_allclose(
        output(edit("truth", change=Set(value=np.array(True)))), plain + 3.0 * (x <= 1), rtol=1e-5
    )
    np.testing.assert_allclose(output(edit("weight", change=Zero(), units=[3])), plain - x * w * (w == 3), atol=1e-5)
    assert not output(edit("given", change=Zero())).any()  # it is the input itself, and so is that of the others
    for wrong, message in {
        edit("count", change=Scale(factor=array(0.5))): "factor is float32, and site 'count' is int8",
        edit("count", change=Set(value=np.array(300))): "it cannot hold 300 to 300",
        edit("count", change=MeanAblate()): "site 'count' is int8, and means are of floats",
        edit("truth", change=Add(value=np.array(True))): "there is no arithmetic on truth values",
        edit("truth", change=Set(value=np.array(1))): "cannot hold int64 values; give bool",
        edit("weight", change=Zero(), rows=[0]): "site 'weight' has no batch axis, and a choice of rows needs one",
        edit("weight", change=MeanAblate()): "a mean over the batch needs one",
        edit("constant", change=Zero()): "site 'constant' is a constant of the network",
        edit("const*", change=Zero()): "site 'constant' is a constant of the network",
    }.items():
        with pytest.raises(InvalidRequestError, match=message):
            lab.inspect("given", edits=[wrong])


def test_a_mean_of_huge_numbers_does_not_overflow(function_lab: Callable[..., Lab]) -> None:
    lab = function_lab(lambda _, inputs: checkpoint_name(inputs["x"] * 3e38, "huge"))
    x = np.ones((3, 4), np.float32)
    captured = lab.capture("huge", x=x, padding=-1, edits=[edit("huge", change=MeanAblate())])
    np.testing.assert_allclose(captured["huge"], np.full((3, 4), 3e38), rtol=1e-6)


@pytest.mark.parametrize("dtype", ["bfloat16", "float8_e4m3fn", "float8_e5m2"])
def test_a_mean_of_small_floats(function_lab: Callable[..., Lab], dtype: str) -> None:
    lab = function_lab(lambda _, inputs: checkpoint_name(inputs["x"].astype(dtype), "small").astype(jnp.float32))
    x = np.array([[1, 2, 4, 8], [1, 0, -4, 4], [4, 1, 0, 0]], np.float32)
    captured = lab.capture("small", x=x, padding=-1, edits=[edit("small", change=MeanAblate())])["small"]
    assert captured.dtype == dtype
    np.testing.assert_array_equal(captured.astype(np.float32), np.tile([[2.0, 1.0, 0.0, 4.0]], (3, 1)))
