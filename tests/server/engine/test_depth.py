"""Cost follows the question: of n blocks, the first k cost k / n of the operations, as the compiler itself counts."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import flax.linen as nn
import jax
import pytest

from fluoroscope_server.engine import Execution

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.server.engine.conftest import Lab

    from fluoroscope_server.engine.stage import Stage

BLOCKS = 8
ROWS = 16
TRIPS = r'known_trip_count"?[:=]\{"?n"?[:=]"?(\d+)'
EXECUTIONS = (Execution.FUSED, Execution.STAGED)


class Block(nn.Module):
    """Two products, and next to nothing else."""

    @nn.compact
    def __call__(self, x: jax.Array, _: Any = None) -> Any:
        return nn.Dense(4)(nn.relu(nn.Dense(512)(x))), None


class Unrolled(nn.Module):
    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        for layer in range(BLOCKS):
            x, _ = Block(name=f"layers_{layer}")(x)
        return x


class Scanned(nn.Module):
    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        scanned = nn.scan(Block, variable_axes={"params": 0}, split_rngs={"params": True}, length=BLOCKS)
        x, _ = scanned(name="layers")(x, None)
        return x


@pytest.fixture(scope="module")
def unrolled(linen_lab: Callable[..., Lab]) -> Lab:
    return linen_lab(Unrolled(), buckets=(ROWS,))


@pytest.fixture(scope="module")
def scanned(linen_lab: Callable[..., Lab]) -> Lab:
    return linen_lab(Scanned(), buckets=(ROWS,))


def flops(stage: Stage) -> float:
    """Returns what the compiler counts in one stage; the body of a loop counts once."""
    return float(stage.executable.cost_analysis().get("flops", 0))


def stages(lab: Lab, site: str, execution: Execution) -> tuple[Stage, ...]:
    return lab.program(lab.inspect(site, rows=ROWS, execution=execution)).stages


@pytest.mark.parametrize("execution", EXECUTIONS)
def test_blocks_that_are_written_out(unrolled: Lab, execution: Execution) -> None:
    def cost(block: int) -> float:
        return sum(flops(stage) for stage in stages(unrolled, f"layers_{block}", execution))

    whole = cost(BLOCKS - 1)
    assert whole > BLOCKS * 2 * ROWS * 2 * 4 * 512
    shares = [cost(block) / whole for block in range(BLOCKS)]
    assert shares == pytest.approx([(block + 1) / BLOCKS for block in range(BLOCKS)], rel=0.01)


@pytest.mark.parametrize("block", [0, 3, 5, BLOCKS - 1])
def test_blocks_in_a_loop_that_is_one_program(scanned: Lab, block: int) -> None:
    """The wanted block is compiled by itself; those before it are a loop whose trips XLA knows."""
    (stage,) = stages(scanned, f"layers[{block}]", Execution.FUSED)
    trips = [int(each) for each in re.findall(TRIPS, stage.executable.as_text())]
    assert trips == [block] * (block > 0)
    one = flops(stages(scanned, "layers[0]", Execution.FUSED)[0])
    assert flops(stage) == pytest.approx(one * (1 + len(trips)), rel=0.03)


def test_a_loop_that_ends_early_copies_no_weights(scanned: Lab) -> None:
    weights = sum(leaf.nbytes for leaf in jax.tree.leaves(scanned.variables))
    for block in (3, BLOCKS - 2):
        assert 0 < scanned.program(scanned.inspect(f"layers[{block}]", rows=ROWS)).peak_bytes < weights / 2


@pytest.mark.parametrize("block", [0, 1, 3, BLOCKS - 1])
def test_blocks_in_a_loop_that_is_stages(scanned: Lab, block: int) -> None:
    """A stage that runs from one block to another is told both numbers, and its body counts so many times."""

    def cost(block: int) -> float:
        found = stages(scanned, f"layers[{block}]", Execution.STAGED)
        return sum(flops(each) * (each.scalars[1] - each.scalars[0] if len(each.scalars) == 2 else 1) for each in found)

    assert cost(block) / cost(0) == pytest.approx(block + 1, rel=0.03)


@pytest.mark.parametrize("execution", EXECUTIONS)
def test_the_server_counts_the_same(unrolled: Lab, scanned: Lab, execution: Execution) -> None:
    """What it tells before anything is compiled, for both."""
    for lab, name in ((unrolled, "layers_{}"), (scanned, "layers[{}]")):
        shares = [
            lab.engine.cost(lab.inspect(name.format(block), rows=ROWS, execution=execution)).fraction
            for block in range(BLOCKS)
        ]
        assert shares == pytest.approx([(block + 1) / BLOCKS for block in range(BLOCKS)], rel=1e-6)
