"""Inspections by the Open Inference Protocol: limits see them for what they are, though they come as predictions do."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import grpc.aio
import numpy as np
import pytest
from jax.ad_checkpoint import checkpoint_name

from fluoroscope_server.rpc.open_inference.inference import open_inference_pb2 as messages
from fluoroscope_server.serving import load
from fluoroscope_server.settings import ModelSource

from ..test_limits import WAIT, answer, refused, run, to_its_end
from .test_stream import Stream, infer, open_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    import jax

    from fluoroscope_server.serving import DeviceQueue, Servable

    from ..test_limits import Served

INFER = "/inference.GRPCInferenceService/ModelInfer"
SITES = infer(sites="Dense_*")


def ask(served: Served, request: bytes = SITES) -> Any:
    return served.channel.unary_unary(INFER)(request, timeout=WAIT)


async def found(call: Any) -> list[str]:
    """Returns the names of what a call brings."""
    return [each.name for each in messages.ModelInferResponse.FromString(await call).outputs]


async def until_open(served: Served, size: int) -> None:
    """Waits until what is being answered has so many bytes."""
    while open_bytes(served) != size:  # noqa: ASYNC110 (a gauge has no event to wait for)
        await asyncio.sleep(0.001)


async def values_of(served: Served) -> int:
    """Returns how many bytes the values have that an inspection brings."""
    return sum(map(len, messages.ModelInferResponse.FromString(await ask(served)).raw_output_contents))


@pytest.mark.parametrize(
    ("limits", "reason"),
    [({"max_streams": 1}, "STREAMS_BUSY"), ({"max_streams_per_client": 1}, "CLIENT_STREAMS_BUSY")],
)
def test_they_count_as_inspections(servable: Servable, limits: dict[str, int], reason: str) -> None:
    async def test(served: Served) -> None:
        size = await values_of(served)
        await until_open(served, 0)
        async with served.busy():
            first = asyncio.ensure_future(answer(ask(served)))
            await until_open(served, len(SITES) + size)
            for again in (answer(ask(served)), to_its_end(served.inspect("Dense_0"))):
                assert (await refused(again))[:2] == ("RESOURCE_EXHAUSTED", reason)
            assert served.shed(reason) == 2
            prediction = asyncio.ensure_future(answer(ask(served, infer())))
        assert await found(first) == ["Dense_0", "Dense_1", "Dense_2"]
        assert await found(prediction) == ["logits"]
        await until_open(served, 0)
        assert await found(ask(served)) == ["Dense_0", "Dense_1", "Dense_2"]

    run(servable, test, **limits)


def test_one_that_is_given_up_makes_room(servable: Servable) -> None:
    async def test(served: Served) -> None:
        size = await values_of(served)
        async with served.busy():
            call = ask(served)
            await until_open(served, len(SITES) + size)
            call.cancel()
            await until_open(served, 0)
            stream = served.inspect("Dense_0")
            assert await anext(aiter(stream)), "its header has come"
        assert await to_its_end(stream)

    run(servable, test, max_streams=1)


def test_all_that_is_put_together_is_bounded_together(servable: Servable) -> None:
    async def test(served: Served) -> None:
        size = await values_of(served)
        await until_open(served, 0)
        async with served.busy():
            first = asyncio.ensure_future(answer(ask(served)))
            await until_open(served, len(SITES) + size)
            assert (await refused(answer(ask(served))))[:2] == ("RESOURCE_EXHAUSTED", "REQUEST_BYTES_BUSY")
            assert served.shed("REQUEST_BYTES_BUSY") == 1
        assert await found(first)
        await until_open(served, 0)
        assert await found(ask(served)), "however large, it is alone now"

    run(servable, test, max_open_bytes=2 * len(SITES) + 1)


def test_an_answer_of_one_message_has_an_end(servable: Servable) -> None:
    async def test(served: Served) -> None:
        code, reason, *_ = await refused(answer(ask(served, infer(3))))
        assert (code, reason) == ("RESOURCE_EXHAUSTED", "ANSWER_TOO_LARGE")
        with pytest.raises(grpc.aio.AioRpcError, match=r"the limit is 24 \(max-answer-mib\): choose fewer sites"):
            await ask(served)
        assert served.shed("INSPECTION_TOO_LARGE") == 1
        assert await found(ask(served, infer(2))) == ["logits"]
        assert await to_its_end(served.inspect("Dense_*")), "whose messages are small"

    run(servable, test, max_answer_bytes=2 * 3 * 4)


def test_outputs_come_before_what_is_at_sites(servable: Servable) -> None:
    async def test(served: Served) -> None:
        request = infer(outputs=["logits"], sites="Dense_0,Dense_1")
        assert await found(ask(served, request)) == ["logits", "Dense_0", "Dense_1"]
        response = messages.ModelInferResponse.FromString(await ask(served, request))
        sizes = [4 * np.prod(each.shape) for each in response.outputs]
        assert [len(each) for each in response.raw_output_contents] == sizes == [12, 32, 24]

    run(servable, test)


def named_as_its_output(variables: Any, inputs: Mapping[str, jax.Array]) -> jax.Array:
    """A network in which a hidden value is named `logits`, as its output is."""
    image = inputs["image"]
    hidden: jax.Array = checkpoint_name(image.reshape(image.shape[0], 4) * variables["scale"], "logits")
    return hidden[:, :3]


def test_a_site_with_the_name_of_an_output_is_not_taken_for_it(
    tmp_path: Path,
    save: Callable[..., Path],
    device: DeviceQueue,
    model_config: dict[str, Any],
    family: Callable[[Any], str],
) -> None:
    config = {**model_config, "family": family(lambda _: named_as_its_output), "config": {}}
    path = save(tmp_path / "run", {"scale": np.float32(1)}, config)
    servable = load(ModelSource(name="digits", path=path), device, capacity=8, on_compile=lambda _: None)
    words = "'logits' is a site and an output, and the answer could not tell them apart: ask for the site without"

    async def test(served: Served) -> None:
        both = infer(outputs=["logits"], sites="*")
        with pytest.raises(grpc.aio.AioRpcError, match=words) as caught:
            await ask(served, both)
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert words in (await Stream(served).ask(both)).error_message
        (alone,) = messages.ModelInferResponse.FromString(await ask(served, infer(sites="logits"))).outputs
        assert (alone.name, list(alone.shape)) == ("logits", [1, 4])

    run(servable, test)
    servable.engine.close()
