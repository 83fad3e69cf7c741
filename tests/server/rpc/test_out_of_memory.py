"""Requests that take more memory than there is: they are refused, their neighbours are not, and the memory returns."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.ad_checkpoint import checkpoint_name

from fluoroscope.v1 import inspection_pb2
from fluoroscope_server.serving import load
from fluoroscope_server.settings import ModelSource

from .test_limits import INSPECT, answer, inspect_request, refused, run, to_its_end

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from fluoroscope_server.serving import DeviceQueue, Servable

    from .test_limits import Served

REFUSED = ("RESOURCE_EXHAUSTED", "OUT_OF_MEMORY", None, "-1")


def network(variables: Any, inputs: Any) -> Any:
    """A network with a site that takes 64 TiB, which no machine gives, and that no output needs."""
    x = inputs["image"] * variables["scale"]
    shape = (x.shape[0], 1 << 44)
    wide = jnp.sin(x[:, 0, :1] * jax.lax.broadcasted_iota(jnp.float32, shape, 1))
    checkpoint_name(jnp.sort(wide, axis=-1)[:, :3], "wide")
    return {"logits": checkpoint_name(x[:, 0], "narrow")}


@pytest.fixture
def greedy(
    tmp_path: Path, save: Callable[..., Path], device: DeviceQueue, family: Callable[[Any], str]
) -> Iterator[Servable]:
    config = {"family": family(lambda _: network), "inputs": {"image": {"shape": [2, 2]}}, "buckets": [1, 4]}
    path = save(tmp_path / "run", {"scale": np.float32(2)}, config)
    servable = load(ModelSource(name="digits", path=path), device, capacity=8, on_compile=lambda _: None)
    yield servable
    servable.engine.close()


@pytest.mark.parametrize("execution", [inspection_pb2.EXECUTION_FUSED, inspection_pb2.EXECUTION_STAGED])
def test_an_inspection_that_takes_too_much(greedy: Servable, execution: int) -> None:
    async def test(served: Served) -> None:
        def inspect(*sites: str) -> Any:
            return to_its_end(served.channel.unary_stream(INSPECT)(inspect_request(*sites, execution=execution)))

        for count in (1, 2):
            neighbours = [asyncio.ensure_future(answer(served.predict())) for _ in range(3)]
            assert await refused(inspect("narrow", "wide")) == REFUSED
            assert len(set(await asyncio.gather(*neighbours))) == 1
            assert served.shed("OUT_OF_MEMORY") == count
            assert await inspect("narrow") == 3

    run(greedy, test)


def test_a_prediction_that_takes_too_much(servable: Servable, monkeypatch: pytest.MonkeyPatch) -> None:
    def exhausted(*_: Any) -> Any:
        raise MemoryError

    async def test(served: Served) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(type(servable.engine), "predict", exhausted)
            assert await refused(answer(served.predict())) == REFUSED
        await served.predict()

    run(servable, test)
