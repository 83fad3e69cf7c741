"""Stages: the values of one program, in the same order, and nothing held longer than it is needed.

Of the networks here they have the same bits. Of others they may be rounded otherwise: XLA fuses each stage for itself.
"""

from __future__ import annotations

import gc
import weakref
from typing import TYPE_CHECKING, Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.ad_checkpoint import checkpoint_name

from fluoroscope_server.engine import Capture, Execution, Full, SiteKind, Statistics
from fluoroscope_server.engine.inspection import STAGED_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.server.engine.conftest import Lab

WIDTH = 256
DEPTH = 6


class Tower(nn.Module):
    """Layers that each hold as much as the others."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        for _ in range(DEPTH):
            x = nn.relu(nn.Dense(WIDTH)(nn.LayerNorm()(x)))
        head: jax.Array = nn.Dense(3)(x)
        return head


@pytest.fixture(scope="module")
def tower(linen_lab: Callable[..., Lab]) -> Lab:
    return linen_lab(Tower(), buckets=(1, 64))


def arrays(lab: Lab, x: np.ndarray, execution: Execution, *sites: str, **question: Any) -> dict[str, np.ndarray]:
    captured = lab.capture(*sites, x=x, execution=execution, **question)
    return {path: np.array(value) for path, value in captured.items()}


@pytest.mark.parametrize("rows", [1, 50, 64])
def test_staged_has_the_bits_of_fused(tower: Lab, batch: Callable[..., np.ndarray], rows: int) -> None:
    x = batch(rows)
    fused, staged = (
        arrays(tower, x, execution, "**", kinds=[SiteKind.MODULE], outputs=["output"])
        for execution in (Execution.FUSED, Execution.STAGED)
    )
    assert list(fused) == list(staged)
    for path, value in fused.items():
        np.testing.assert_array_equal(staged[path], value, strict=True)


def test_a_stage_for_each_part_of_the_work(tower: Lab) -> None:
    inspection = tower.inspect("Dense_*", rows=64, execution=Execution.STAGED)
    stages = tower.program(inspection).stages
    assert [len(stage.places) for stage in stages] == [2] + [1] * (DEPTH - 1)  # the first layer is narrow
    assert tower.program(tower.inspect("Dense_*", rows=64, execution=Execution.FUSED)).stages[0].places == tuple(
        range(7)
    )


def test_small_results_share_a_stage(tower: Lab) -> None:
    """The less there is to compute between them, the fewer stages."""
    inspection = tower.inspect("**", rows=64, execution=Execution.STAGED)
    stages = tower.program(inspection).stages
    assert DEPTH <= len(stages) <= 33 < len(inspection.results)


def test_auto_goes_by_bytes(function_lab: Callable[..., Lab]) -> None:
    count = STAGED_BYTES // 4 // 2

    def network(variables: Any, inputs: dict[str, jax.Array]) -> Any:
        first = checkpoint_name(inputs["x"][:, :1] + variables["w"][None], "first")
        return checkpoint_name(first * 2.0, "second")[:, :3]

    lab = function_lab(network, {"w": np.ones(count, np.float32)}, buckets=(1, 2))
    assert lab.inspect("first", "second", rows=1).plan.staged
    assert not lab.inspect("first", rows=1).plan.staged
    assert not lab.inspect("first", "second", rows=1, reductions=[Statistics()]).plan.staged
    assert not lab.inspect("first", "second", rows=1, execution=Execution.FUSED).plan.staged


def test_what_is_named_late_comes_late(function_lab: Callable[..., Lab], batch: Callable[..., np.ndarray]) -> None:
    """An early value that a later mark names again is kept until its turn."""

    def network(variables: Any, inputs: dict[str, jax.Array]) -> Any:
        early = jnp.sin(inputs["x"]) @ variables["w"]
        middle = checkpoint_name(early @ variables["w"], "middle")
        late = checkpoint_name(early, "late")
        constant = checkpoint_name(variables["w"], "constant")
        given = checkpoint_name(inputs["x"], "given")
        return checkpoint_name(middle @ variables["w"], "last") + late + given + constant.sum()

    w = np.random.default_rng(0).normal(size=(4, 4)).astype(np.float32)
    lab, x = function_lab(network, {"w": w}), batch(4)
    names = ("middle", "late", "constant", "given", "last")
    fused, staged = (arrays(lab, x, each, *names) for each in (Execution.FUSED, Execution.STAGED))
    assert list(staged) == list(fused) == list(names)
    for path, value in fused.items():
        np.testing.assert_array_equal(staged[path], value, strict=True)
    np.testing.assert_allclose(staged["late"], np.sin(x) @ w, rtol=1e-5)


def test_nothing_runs_before_it_is_asked_for(tower: Lab, batch: Callable[..., np.ndarray]) -> None:
    inspection = tower.inspect("Dense_*", rows=64, execution=Execution.STAGED)
    program, x = tower.program(inspection), batch(64)
    stages = tower.engine.run(program, [x], inspection)
    first = next(stages)
    assert len(first) == 2
    stages.close()  # type: ignore[attr-defined]  # a generator


def test_values_are_let_go_when_no_later_stage_needs_them(tower: Lab, batch: Callable[..., np.ndarray]) -> None:
    inspection = tower.inspect("Dense_*", rows=64, execution=Execution.STAGED)
    stages: Iterator[Any] = tower.engine.run(tower.program(inspection), [batch(64)], inspection)
    held: list[weakref.ref[Any]] = []
    for number, results in enumerate(stages):
        held.append(weakref.ref(results[0][0]))
        del results
        gc.collect()
        alive = [index for index, each in enumerate(held[:number]) if each() is not None]  # the next may need the last
        assert not alive, f"the results of stages {alive} are held behind stage {number}"
    assert number == len(held) - 1 == DEPTH - 1


def test_everything_that_a_stage_takes_was_given_before(tower: Lab) -> None:
    inspection = tower.inspect("**", rows=64, execution=Execution.STAGED)
    program = tower.program(inspection)
    known: set[Any] = {*program.variables, *program.constants}
    for stage in program.stages:
        assert set(stage.inputs) <= known
        known |= set(stage.outputs)
        assert set(stage.released) <= known
        known -= set(stage.released)
    assert not known - {*program.variables, *program.constants}


def test_mutable_arrays_keep_a_network_in_one_stage(
    function_lab: Callable[..., Lab], batch: Callable[..., np.ndarray]
) -> None:
    def network(_: Any, inputs: dict[str, jax.Array]) -> Any:
        cell = jax.new_ref(inputs["x"])
        cell[...] = checkpoint_name(jnp.sin(inputs["x"]), "first")
        return checkpoint_name(cell[...] + 1.0, "second")

    lab, x = function_lab(network), batch(4)
    captured = arrays(lab, x, Execution.STAGED, "first", "second")
    np.testing.assert_allclose(captured["second"], np.sin(x) + 1, rtol=1e-6)


def test_the_way_of_running_is_part_of_the_plan(tower: Lab) -> None:
    plans = {tower.inspect("Dense_0", rows=64, execution=each).plan for each in Execution}
    assert len(plans) == 2
    assert tower.engine.inspect([Capture(sites=("Dense_0",), reductions=(Full(),))], [], rows=64).plan in plans
