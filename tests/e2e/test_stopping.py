"""Stopping: who is waited for, for how long, and what those are told who come too late."""

from __future__ import annotations

import asyncio
import signal
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

import fluoroscope
from fluoroscope.v1 import inspection_pb2
from fluoroscope.wire import StreamJoiner, encode_tensor

from .long_stream import SITES, begin_stream
from .saved import batch
from .server_process import eventually, serving

if TYPE_CHECKING:
    from pathlib import Path

    from .conftest import Saved
    from .server_process import ServerProcess


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_stream_under_way_is_finished(wide_variables: tuple[Path, Any], number: signal.Signals) -> None:
    with serving({"wide": wide_variables[0]}) as server:
        with fluoroscope.Client(server.target) as client, fluoroscope.Client(server.target) as other:
            assert other.predict("wide", {"x": batch(1)})["logits"].shape == (1, 4)
            stream, sites = begin_stream(client)
            server.signal(number)
            server.hears("draining: calls under way have 30 s")
            eventually(lambda: server.get("/readyz")[0] == 503, what="it is not ready while it drains")
            assert server.get("/healthz")[0] == 200
            with pytest.raises(fluoroscope.ServerUnavailableError):
                other.predict("wide", {"x": batch(1)})
            assert server.process.poll() is None, "it waits for the stream"

            sites += [each.site for each in stream]

        assert sites == [f"activations/{index}" for index in range(11)]
        assert server.wait() == 0
    assert server.lines[-1] == "fluoroscope-server: stopped"
    assert "Traceback" not in server.said


def test_fifty_streams_under_way_are_finished(wide_variables: tuple[Path, Any]) -> None:
    """Of as many connections; each has begun, and is read on when the server already drains."""
    request = inspection_pb2.InspectActivationsRequest(
        model="wide", inputs={"x": encode_tensor(batch(8))}, captures=[inspection_pb2.Capture(sites=[SITES])]
    )

    async def main(server: ServerProcess) -> list[StreamJoiner]:
        joiners = [StreamJoiner() for _ in range(50)]
        begun: asyncio.Queue[int] = asyncio.Queue()
        draining = asyncio.Event()

        async def reader(number: int) -> None:
            alone = (("grpc.use_local_subchannel_pool", 1), ("grpc.max_receive_message_length", -1))
            async with grpc.aio.insecure_channel(server.target, options=alone) as channel:
                call: Any = channel.unary_stream("/fluoroscope.v1.InspectionService/InspectActivations")
                async for message in call(request.SerializeToString(), timeout=120):
                    joiners[number].feed(message)
                    if joiners[number].byte_count and not draining.is_set():
                        begun.put_nowait(number)
                        await draining.wait()
            joiners[number].finish()

        readers = [asyncio.ensure_future(reader(number)) for number in range(len(joiners))]
        assert {await begun.get() for _ in readers} == set(range(len(readers)))
        server.signal(signal.SIGTERM)
        await asyncio.to_thread(server.hears, "draining: calls under way have 30 s")
        draining.set()
        await asyncio.gather(*readers)
        return joiners

    with serving({"wide": wide_variables[0]}, "--max-streams=50", "--max-streams-per-client=50") as server:
        joiners = asyncio.run(asyncio.wait_for(main(server), 200))
        assert server.wait() == 0
    assert len({joiner.byte_count for joiner in joiners}) == 1
    assert joiners[0].byte_count > 50 * 2**16, "more than what may be on its way"


def test_a_second_signal_ends_it_at_once(wide_variables: tuple[Path, Any]) -> None:
    with serving({"wide": wide_variables[0]}, "--grace=600") as server, fluoroscope.Client(server.target) as client:
        stream, _ = begin_stream(client)
        server.signal(signal.SIGTERM)
        server.hears("draining: calls under way have 600 s")
        server.signal(signal.SIGTERM)
        assert server.wait(30) == 0
        with pytest.raises((fluoroscope.ServerUnavailableError, fluoroscope.CallCancelledError)) as ended:
            list(stream)
        assert "activations/" in str(ended.value) or "of 11" in str(ended.value), "it says what had come"


def test_the_grace_ends(wide_variables: tuple[Path, Any]) -> None:
    """What a client is told that reads nothing is behind all that it has not read: it may see a broken connection."""
    with serving({"wide": wide_variables[0]}, "--grace=0.5") as server, fluoroscope.Client(server.target) as client:
        stream, _ = begin_stream(client)
        server.signal(signal.SIGTERM)
        assert server.wait(30) == 0
        server.hears(r"InspectActivations code=UNAVAILABLE .*reason=DRAINING")
        with pytest.raises(fluoroscope.ServerUnavailableError, match=r"did not wait for this call|broke: ") as ended:
            list(stream)
        assert ended.value.arrived is not None
        assert "Start a server" not in ended.value.message


def test_one_who_waits_for_a_server_that_drains_waits_for_the_next(checkpoints: Saved) -> None:
    models = {"relu": checkpoints.folders["relu"]}
    with serving(models, "--drain-delay=1") as server, fluoroscope.Client(server.target) as client:
        server.signal(signal.SIGTERM)
        server.hears("not ready any more: new calls are answered for 1 s")
        with ThreadPoolExecutor(1) as thread:
            waits = thread.submit(client.wait_ready, "relu", timeout=120)
            assert server.wait() == 0
            assert not waits.done()
            with serving(models, listen=server.target):
                waits.result(120)
                assert client.predict("relu", {"x": batch(1)})["logits"].shape == (1, 5)


def test_new_calls_are_answered_until_balancers_have_noticed(checkpoints: Saved) -> None:
    with (
        serving({"relu": checkpoints.folders["relu"]}, "--drain-delay=600") as server,
        fluoroscope.Client(server.target) as client,
        grpc.insecure_channel(server.target) as channel,
    ):
        health: Any = health_pb2_grpc.HealthStub(channel)
        server.signal(signal.SIGTERM)
        server.hears("not ready any more: new calls are answered for 600 s; signal again to end now")
        assert server.get("/readyz")[0] == 503
        assert server.get("/healthz")[0] == 200
        assert health.Check(health_pb2.HealthCheckRequest()).status == health_pb2.HealthCheckResponse.NOT_SERVING
        assert client.predict("relu", {"x": batch(1)})["logits"].shape == (1, 5)
        server.signal(signal.SIGTERM)
        assert server.wait(30) == 0
        with pytest.raises(fluoroscope.ServerUnavailableError):
            client.predict("relu", {"x": batch(1)})


def test_who_watches_the_health_does_not_hold_up_the_end(checkpoints: Saved) -> None:
    with (
        serving({"relu": checkpoints.folders["relu"]}, "--grace=600") as server,
        grpc.insecure_channel(server.target) as channel,
    ):
        health: Any = health_pb2_grpc.HealthStub(channel)
        watch = health.Watch(health_pb2.HealthCheckRequest(), timeout=60)
        assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
        server.signal(signal.SIGTERM)
        assert next(watch).status == health_pb2.HealthCheckResponse.NOT_SERVING
        assert server.wait(4) == 0
