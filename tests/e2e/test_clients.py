"""`Client` and `AsyncClient` against a real server: what comes back, what is raised, what is let go."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from typing import TYPE_CHECKING

import numpy as np
import pytest

import fluoroscope

from .conftest import WIDE_ROWS
from .saved import batch

if TYPE_CHECKING:
    from .server_process import ServerProcess

SITES = "activations/*"


@pytest.mark.parametrize("rows", [1, 2, 5, 8])
def test_both_clients_get_the_same(server: ServerProcess, client: fluoroscope.Client, rows: int) -> None:
    x = batch(rows, seed=rows)

    async def ask() -> tuple[dict[str, np.ndarray], fluoroscope.Inspection, list[str], list[str]]:
        async with fluoroscope.AsyncClient(server.target) as other:
            await other.wait_ready("elu", timeout=10)
            sites = [site.path for site in await other.sites("elu", SITES)]
            found = await other.inspect("elu", {"x": x}, sites=SITES, outputs=["logits"])
            streamed = [each.site async for each in other.stream("elu", {"x": x}, sites=SITES)]
            return await other.predict("elu", {"x": x}), found, streamed, sites

    answer, found, streamed, sites = asyncio.run(ask())
    expected = client.inspect("elu", {"x": x}, sites=SITES, outputs=["logits"])

    assert np.array_equal(answer["logits"], client.predict("elu", {"x": x})["logits"])
    assert list(found) == list(expected) == streamed == sites
    for site, each in found.items():
        array, same = each.array, expected[site].array
        assert array is not None
        assert same is not None
        assert array.tobytes() == same.tobytes()
    assert found.outputs["logits"].tobytes() == answer["logits"].tobytes()
    assert (found.rows, found.version, found.model) == (rows, 7, "elu")


def test_lists_are_given_the_dtype_of_the_model(client: fluoroscope.Client) -> None:
    x = batch(1)
    answer = client.predict("elu", {"x": x.tolist()})
    assert np.array_equal(answer["logits"], client.predict("elu", {"x": x})["logits"])


def test_threads_may_share_a_client(client: fluoroscope.Client) -> None:
    x = [batch(rows, seed=rows) for rows in (1, 2, 3, 5, 8)] * 8
    expected = [client.predict("elu", {"x": each})["logits"] for each in x]
    with ThreadPoolExecutor(max_workers=8) as pool:
        found = list(pool.map(lambda each: client.predict("elu", {"x": each})["logits"], x))
    for mine, alone in zip(found, expected, strict=True):  # those that are joined may be summed in another order
        np.testing.assert_allclose(mine, alone, rtol=1e-5, atol=1e-6)


def test_errors_say_what_was_wrong(server: ServerProcess, client: fluoroscope.Client) -> None:
    x = batch(1)
    with pytest.raises(fluoroscope.NotFoundError, match="no model 'rleu'") as model:
        client.predict("rleu", {"x": x})
    with pytest.raises(fluoroscope.NotFoundError, match="Dense_0") as site:
        client.inspect("elu", {"x": x}, sites="Dense0")
    with pytest.raises(fluoroscope.InvalidRequestError, match=r"float64\[1, 6\].*float32") as dtype:
        client.predict("elu", {"x": x.astype(np.float64)})
    with pytest.raises(fluoroscope.LimitExceededError, match="limit is 10") as limit:
        client.inspect("elu", {"x": x}, sites="**", max_bytes=10)

    async def asynchronously() -> fluoroscope.FluoroscopeError:
        async with fluoroscope.AsyncClient(server.target) as other:
            with pytest.raises(fluoroscope.NotFoundError) as refused:
                await other.inspect("elu", {"x": x}, sites="Dense0")
            return refused.value

    also = asyncio.run(asynchronously())
    assert (model.value.reason, model.value.field) == ("MODEL_NOT_FOUND", "model")
    assert (site.value.reason, site.value.field) == ("SITE_NOT_FOUND", "captures[0].sites[0]")
    assert (dtype.value.reason, dtype.value.field) == ("WRONG_DTYPE", "inputs[x]")
    assert (limit.value.reason, limit.value.field) == ("INSPECTION_TOO_LARGE", "max_bytes")
    assert (also.message, also.reason, also.field) == (site.value.message, site.value.reason, site.value.field)


def test_nobody_there() -> None:
    with fluoroscope.Client("127.0.0.1:1", timeout=10) as client:
        with pytest.raises(fluoroscope.ConnectionFailedError, match=r"127\.0\.0\.1:1"):
            client.predict("relu", {"x": batch(1)})
        with pytest.raises(fluoroscope.DeadlineExceededError):
            client.wait_ready(timeout=0.2)


def test_a_timeout_ends_the_work_on_the_server(wide_server: ServerProcess) -> None:
    before = wide_server.metrics()
    with fluoroscope.Client(wide_server.target) as client:
        # Eleven statistics of 32 MiB take longer than this, whatever the machine.
        with pytest.raises(fluoroscope.DeadlineExceededError, match="timeout"):
            client.inspect("wide", {"x": batch(WIDE_ROWS)}, sites="**", reduce=fluoroscope.Statistics(), timeout=0.05)
        assert client.predict("wide", {"x": batch(1)})["logits"].shape == (1, 4)
    wide_server.at_rest()
    labels = {"grpc_method": "InspectActivations", "grpc_code": "DEADLINE_EXCEEDED"}
    name = "grpc_server_handled_total"
    assert wide_server.metrics().total(name, **labels) == before.total(name, **labels) + 1


def test_a_stream_that_is_left_early_is_cancelled(wide_server: ServerProcess) -> None:
    before = wide_server.metrics()

    async def leave() -> str:
        async with fluoroscope.AsyncClient(wide_server.target) as client:
            stream = client.stream("wide", {"x": batch(WIDE_ROWS)}, sites=SITES)
            async with aclosing(stream):
                async for each in stream:
                    return each.site
        raise AssertionError("it brought nothing")

    assert asyncio.run(leave()) == "activations/0"
    wide_server.at_rest()
    labels = {"grpc_method": "InspectActivations", "grpc_code": "CANCELLED"}
    name = "grpc_server_handled_total"
    assert wide_server.metrics().total(name, **labels) == before.total(name, **labels) + 1


def test_a_task_that_is_cancelled_cancels_its_call(wide_server: ServerProcess) -> None:
    async def cancel() -> None:
        async with fluoroscope.AsyncClient(wide_server.target) as client:
            began = asyncio.Event()
            task = asyncio.ensure_future(
                client.inspect("wide", {"x": batch(WIDE_ROWS)}, sites=SITES, progress=lambda _: began.set())
            )
            await asyncio.wait_for(began.wait(), 60)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert (await client.predict("wide", {"x": batch(1)}))["logits"].shape == (1, 4)

    asyncio.run(cancel())
    wide_server.at_rest()


def test_closing_a_client_ends_its_streams(wide_server: ServerProcess) -> None:
    client = fluoroscope.Client(wide_server.target)
    stream = client.stream("wide", {"x": batch(WIDE_ROWS)}, sites=SITES)
    assert next(stream).site == "activations/0"
    client.close()
    with pytest.raises((fluoroscope.CallCancelledError, fluoroscope.IncompleteStreamError)):
        list(stream)
    wide_server.at_rest()


def test_progress_is_told(client: fluoroscope.Client) -> None:
    told: list[fluoroscope.Progress] = []
    found = client.inspect("elu", {"x": batch(4)}, sites=SITES, progress=told.append)

    assert told[0].byte_count == 0
    assert [each.byte_count for each in told] == sorted(each.byte_count for each in told)
    assert told[-1].byte_count == told[-1].total_bytes
    assert told[-1].results == told[-1].total_results == len(found)
    assert told[-1].stages.keys() == found.stages.keys() >= {"queue", "compute"}
