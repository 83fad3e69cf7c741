"""A stream of many requests: each of them is let in, counted and refused as a call of its own would be."""

from __future__ import annotations

import asyncio
import re
from datetime import date
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio
import numpy as np
import pytest

from fluoroscope_server.keys import entry_of, new_token, tokens
from fluoroscope_server.rpc.open_inference.inference import open_inference_pb2 as messages

from ..test_limits import WAIT, run

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from fluoroscope_server.serving import Servable

    from ..test_limits import Served

STREAM = "/inference.GRPCInferenceService/ModelStreamInfer"


def infer(
    rows: int = 1, *, name: str = "", model: str = "digits", outputs: Sequence[str] = (), **parameters: str
) -> bytes:
    """Returns a request as tritonclient makes it."""
    request = messages.ModelInferRequest(model_name=model, id=name)
    for each in outputs:
        request.outputs.add(name=each)
    request.inputs.add(name="image", datatype="FP32", shape=[rows, 2, 2])
    request.raw_input_contents.append(np.ones((rows, 2, 2), np.float32).tobytes())
    for key, value in parameters.items():
        request.parameters[key].string_param = value
    return request.SerializeToString()


class Stream:
    """One stream, as tritonclient's `start_stream` opens it."""

    def __init__(self, served: Served, **metadata: str) -> None:
        self.call: Any = served.channel.stream_stream(STREAM)(timeout=WAIT, metadata=tuple(metadata.items()))

    async def ask(self, request: bytes) -> Any:
        """Returns the answer to a request that has one."""
        await self.call.write(request)
        return messages.ModelStreamInferResponse.FromString(await self.call.read())

    async def end(self) -> None:
        await self.call.done_writing()
        assert await self.call.read() is grpc.aio.EOF
        assert await self.call.code() is grpc.StatusCode.OK


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        ("", "the token is none that this server knows"),
        (lambda token: entry_of(token, "trainer", ["predict"], expires=date(2020, 1, 1)), "'trainer' was good until"),
    ],
    ids=["removed", "expired"],
)
def test_a_token_that_is_not_good_any_more_ends_a_stream(
    servable: Servable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, entries: Any, words: str
) -> None:
    monkeypatch.setattr(tokens, "LOOK_SECONDS", 0.0)
    token, file = new_token(), tmp_path / "tokens.toml"
    file.write_text(entry_of(token, "trainer", ["predict"]))
    file.chmod(0o600)

    async def test(served: Served) -> None:
        stream = Stream(served, authorization=f"Bearer {token}")
        for _ in range(2):
            assert (await stream.ask(infer())).infer_response.outputs
        file.write_text(entries and entries(token))
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stream.ask(infer())
        assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
        assert words in str(caught.value.details())

    run(servable, test, tokens=file)


def test_a_token_that_was_narrowed_is_so_for_the_next_request(
    servable: Servable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokens, "LOOK_SECONDS", 0.0)
    token, file = new_token(), tmp_path / "tokens.toml"
    file.write_text(entry_of(token, "trainer", ["predict", "inspect"]))
    file.chmod(0o600)

    async def test(served: Served) -> None:
        stream = Stream(served, authorization=f"Bearer {token}")
        assert (await stream.ask(infer(sites="Dense_0"))).infer_response.outputs[0].name == "Dense_0"
        file.write_text(entry_of(token, "trainer", ["predict"]))
        assert (await stream.ask(infer())).infer_response.outputs[0].name == "logits"
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stream.ask(infer(sites="Dense_0"))
        assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED

    run(servable, test, tokens=file)


def open_bytes(served: Served) -> float | None:
    return served.metrics.registry.get_sample_value("fluoroscope_open_request_bytes")


@pytest.mark.parametrize(
    ("limits", "request_bytes", "reason", "words"),
    [
        (
            {"max_request_bytes": 600},
            infer(60),
            "REQUEST_TOO_LARGE",
            r"bytes, and the limit is 600 \(max-request-mib\)",
        ),
        ({"max_rows": 2}, infer(3), "TOO_MANY_ROWS", r"the limit is 2 \(max-rows\)"),
        ({"max_inspection_bytes": 10}, infer(sites="**"), "INSPECTION_TOO_LARGE", "would send"),
    ],
    ids=["request", "rows", "inspection"],
)
def test_what_is_too_large_is_refused_in_the_stream_and_counted(
    servable: Servable, limits: dict[str, int], request_bytes: bytes, reason: str, words: str
) -> None:
    async def test(served: Served) -> None:
        stream = Stream(served)
        for count in (1, 2):
            refused = await stream.ask(request_bytes)
            assert re.search(words, refused.error_message)
            assert served.shed(reason) == count
            assert (await stream.ask(infer())).infer_response.outputs, "the stream goes on"
        await stream.end()

    run(servable, test, **limits)


def test_a_full_queue_is_full_for_streams_too(servable: Servable) -> None:
    async def test(served: Served) -> None:
        async with served.busy():
            streams = [Stream(served) for _ in range(3)]
            for index, each in enumerate(streams[:2]):
                await each.call.write(infer())
                await served.waiting(index)
            assert "(max-queue)" in (await streams[2].ask(infer())).error_message
            assert served.shed("QUEUE_FULL") == 1
        for each in streams[:2]:
            assert messages.ModelStreamInferResponse.FromString(await each.call.read()).infer_response.outputs

    run(servable, test, max_queue=1)


def test_what_is_being_answered_counts_and_what_waits_for_its_client_does_not(servable: Servable) -> None:
    first, second = infer(), infer(4)

    async def test(served: Served) -> None:
        streams = [Stream(served) for _ in range(2)]
        for each in streams:
            assert (await each.ask(first)).infer_response.outputs
        while open_bytes(served):  # noqa: ASYNC110 (a gauge has no event to wait for)
            await asyncio.sleep(0.001)
        async with served.busy():
            await streams[0].call.write(first)
            while open_bytes(served) != len(first):  # noqa: ASYNC110 (a count has no event to wait for)
                await asyncio.sleep(0.001)
            refused = await streams[1].ask(second)
            assert f"this request has {len(second)} bytes, those that are being answered" in refused.error_message
            assert served.shed("REQUEST_BYTES_BUSY") == 1
        assert messages.ModelStreamInferResponse.FromString(await streams[0].call.read()).infer_response.outputs
        assert (await streams[1].ask(second)).infer_response.outputs, "however large, it is alone now"
        streams[0].call.cancel()
        await streams[1].end()
        while open_bytes(served):  # noqa: ASYNC110 (a count has no event to wait for)
            await asyncio.sleep(0.001)

    run(servable, test, max_open_bytes=len(first) + 1)


def test_a_stream_ends_with_its_answer_when_the_server_drains(servable: Servable) -> None:
    async def test(served: Served) -> None:
        fresh, idle, busy = (Stream(served) for _ in range(3))
        for each in (idle, busy):
            assert (await each.ask(infer())).infer_response.outputs
        async with served.busy():
            await busy.call.write(infer())
            while not open_bytes(served):  # noqa: ASYNC110 (a count has no event to wait for)
                await asyncio.sleep(0.001)
            drain = asyncio.ensure_future(served.server.drain(WAIT))
            for each in (fresh, idle):
                assert await each.call.code() is grpc.StatusCode.UNAVAILABLE
            assert not drain.done()
        assert messages.ModelStreamInferResponse.FromString(await busy.call.read()).infer_response.outputs
        assert await busy.call.code() is grpc.StatusCode.UNAVAILABLE
        assert "the server ends" in await busy.call.details()
        await asyncio.wait_for(drain, WAIT / 2)

    run(servable, test)


def test_a_stream_whose_client_asks_no_more_ends_well_when_the_server_drains(servable: Servable) -> None:
    async def test(served: Served) -> None:
        stream = Stream(served)
        async with served.busy():
            await stream.call.write(infer())
            await stream.call.done_writing()
            while not open_bytes(served):  # noqa: ASYNC110 (a count has no event to wait for)
                await asyncio.sleep(0.001)
            drain = asyncio.ensure_future(served.server.drain(WAIT))
            await asyncio.sleep(0)
        assert messages.ModelStreamInferResponse.FromString(await stream.call.read()).infer_response.outputs
        await stream.end()
        await asyncio.wait_for(drain, WAIT / 2)

    run(servable, test)


def test_an_error_names_the_request_or_the_call(servable: Servable) -> None:
    async def test(served: Served) -> None:
        stream = Stream(served, **{"x-request-id": "call-7"})
        named = await stream.ask(infer(name="of tritonclient", model="nobody"))
        assert named.infer_response.id == "of tritonclient"
        assert named.error_message.startswith("Request for unknown model: there is no model 'nobody'")
        assert named.error_message.endswith(" (request 'of tritonclient')")
        assert (await stream.ask(infer(model="nobody"))).error_message.endswith(" (request 'call-7')")
        assert (await stream.ask(b"\xff")).error_message.endswith(" (request 'call-7')")
        await stream.end()
        nameless = Stream(served)
        message = (await nameless.ask(infer(model="nobody"))).error_message
        await nameless.end()
        (made,) = (value for key, value in await nameless.call.trailing_metadata() if key == "x-request-id")
        assert message.endswith(f" (request {made!r})")

    run(servable, test)
