"""A stream of many requests: each of them is let in, counted and refused as a call of its own would be."""

from __future__ import annotations

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
    from pathlib import Path

    from fluoroscope_server.serving import Servable

    from ..test_limits import Served

STREAM = "/inference.GRPCInferenceService/ModelStreamInfer"


def infer(rows: int = 1, *, name: str = "", model: str = "digits", **parameters: str) -> bytes:
    """Returns a request as tritonclient makes it."""
    request = messages.ModelInferRequest(model_name=model, id=name)
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
