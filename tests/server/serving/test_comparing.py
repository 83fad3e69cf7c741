"""Comparisons of two versions, each with an engine of its own, and of one version on two inputs."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
import pytest

from fluoroscope.calls.compare import ComparisonReader
from fluoroscope.v1 import inspection_pb2
from fluoroscope.wire import encode_tensor
from fluoroscope_server.engine import Tolerance
from fluoroscope_server.errors import InvalidRequestError, LimitExceededError, NotFoundError
from fluoroscope_server.metrics import STAGES, Metrics
from fluoroscope_server.rpc.comparison import ComparisonMethod
from fluoroscope_server.serving import ComparedSide, DeviceQueue, Limits, StageClock, blaming, compare, load
from fluoroscope_server.serving.turns import Turn
from fluoroscope_server.settings import ModelSource

from .house import repository_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from fluoroscope.calls import Comparison
    from fluoroscope_server.families.base_network import BaseNetwork
    from fluoroscope_server.serving import ComparisonAnswer, Servable

X = np.random.default_rng(0).normal(size=(3, 2, 2)).astype(np.float32)
WAIT = 60


@pytest.fixture(scope="module")
def changed(variables: Any) -> Any:
    """Weights that differ in the second layer."""
    return jax.tree_util.tree_map_with_path(
        lambda path, leaf: leaf * 1.01 if "Dense_1" in jax.tree_util.keystr(path) else leaf, variables
    )


@pytest.fixture(scope="module")
def other(
    tmp_path_factory: pytest.TempPathFactory,
    save: Callable[..., Path],
    device: DeviceQueue,
    model_config: dict[str, Any],
    changed: Any,
) -> Iterator[Servable]:
    """The small network with other weights, and with another bucket."""
    path = save(tmp_path_factory.mktemp("other") / "run", changed, {**model_config, "buckets": [8]})
    loaded = load(ModelSource(name="digits", path=path), device, capacity=8, on_compile=lambda _: None)
    yield loaded
    loaded.engine.close()


def side(servable: Servable, x: np.ndarray = X) -> ComparedSide:
    return ComparedSide(servable=servable, inputs={"image": x})


def ask(left: ComparedSide, right: ComparedSide, *sites: str) -> tuple[ComparisonAnswer, list[Any], StageClock]:
    async def main() -> tuple[ComparisonAnswer, list[Any], StageClock]:
        clock = StageClock()
        answer = await compare(
            left, right, sites=sites or ("activations/*",), kinds=(), tolerance=Tolerance(), clock=clock
        )
        return answer, [each async for found in answer.differences() for each in found], clock

    return asyncio.run(asyncio.wait_for(main(), WAIT))


def test_two_versions(servable: Servable, other: Servable, module: BaseNetwork, variables: Any, changed: Any) -> None:
    answer, found, clock = ask(side(servable), side(other))
    outs: list[Any] = [module.apply(each, X, return_activations=True) for each in (variables, changed)]
    pairs = list(zip(outs[0][1], outs[1][1], strict=True))
    assert len(found) == len(pairs) == 5
    for difference, (a, b) in zip(found, pairs, strict=True):
        apart = np.abs(np.asarray(a, np.float64) - np.asarray(b, np.float64))
        assert difference.count == apart.size
        assert difference.max_abs == pytest.approx(apart.max(), rel=1e-3, abs=1e-6)
        assert difference.mean_abs == pytest.approx(apart.mean(), rel=1e-3, abs=1e-6)
    assert [difference.max_abs > 1e-4 for difference in found] == [False, False, True, True, True]
    assert [program.plan.bucket for program in answer.programs] == [4, 8]
    assert [stage for stage, _ in clock.times] == ["decode", "compile", "queue", "pad", "compute"]
    again, _, _ = ask(side(servable), side(other))
    assert again.held == (True, True)


def test_predictions_go_first_and_clients_take_turns(servable: Servable) -> None:
    """As for any other inspection: a comparison that waits lets those go first that came after it."""
    order: list[str] = []

    def noting(name: str, run: Iterator[Any]) -> Iterator[Any]:
        for each in run:
            order.append(name)
            yield each

    async def main() -> None:
        begun, go = threading.Event(), threading.Event()
        queue = DeviceQueue("one at a time", workers=1)

        def hold() -> None:
            begun.set()
            go.wait(WAIT)

        held = queue.submit(hold, turn=Turn.INSPECTION)
        await asyncio.to_thread(begun.wait, WAIT)
        reading = []
        for name, client in (("first", "a"), ("second", "a"), ("third", "b")):
            answer = await compare(
                side(servable),
                side(servable),
                sites=("activations/0",),
                kinds=(),
                tolerance=Tolerance(),
                clock=StageClock(),
                client=client,
            )
            answer = replace(answer, device=queue, run=noting(name, answer.run))
            reading.append(asyncio.ensure_future(anext(aiter(answer.differences()))))
            await asyncio.sleep(0)  # it waits in the queue now
        prediction = queue.submit(lambda: order.append("prediction"))
        go.set()
        await asyncio.gather(held, prediction, *reading)
        await asyncio.to_thread(queue.close)

    asyncio.run(asyncio.wait_for(main(), WAIT))
    assert order == ["prediction", "first", "third", "second"]


def test_inputs_that_do_not_fit_are_blamed_on_their_side(servable: Servable, other: Servable) -> None:
    with pytest.raises(InvalidRequestError, match="left side have 3 rows, and those of the right 2") as rows:
        ask(side(servable), side(other, X[:2]))
    assert (rows.value.field, rows.value.reason) == ("right.inputs", "ROWS_DIFFER")
    with pytest.raises(InvalidRequestError) as shape:
        ask(side(servable), side(other, X[:, :1]))
    assert shape.value.field == "right.inputs[image]"
    assert shape.value.message.startswith("on the right side, input 'image' came as float32[3, 1, 2]")
    with pytest.raises(LimitExceededError) as large:
        ask(side(servable, np.repeat(X, 2, axis=0)), side(other, np.repeat(X, 2, axis=0)))
    assert large.value.field == "left.inputs"
    few = ComparisonMethod(Versions(servable), Metrics(), Limits(max_results=3))  # type: ignore[arg-type]  # all it needs
    with pytest.raises(LimitExceededError, match=r"the limit is 3 \(max-results\)") as many:
        stream(few, request_of(X))
    assert many.value.field == "sites"
    with pytest.raises(NotFoundError), blaming("left"):
        raise NotFoundError("no such model", field="model")


class Versions:
    """Two versions of one model, by their number."""

    def __init__(self, *servables: Servable) -> None:
        self._servables = servables

    def get(self, name: str, version: int | None = None) -> Servable:
        assert name == "digits"
        return self._servables[version or 0]


class Context:
    """What a comparison looks at of its call: who it is from."""

    def peer(self) -> str:
        return "ipv4:127.0.0.1:50000"


def stream(method: ComparisonMethod, request: inspection_pb2.CompareActivationsRequest) -> Comparison:
    """Answers a request, and reads the answer as the client does."""

    async def main() -> list[bytes]:
        context: Any = Context()
        return [message async for message in method.compare_activations(request.SerializeToString(), context)]

    reader = ComparisonReader()
    items = [item for message in asyncio.run(asyncio.wait_for(main(), WAIT)) if (item := reader.feed(message))]
    reader.finish()
    return reader.collect(items)


def request_of(x: np.ndarray) -> inspection_pb2.CompareActivationsRequest:
    """Compares everything, both sides on one batch."""
    request = inspection_pb2.CompareActivationsRequest(model="digits", sites=["**"])
    request.left.inputs["image"].CopyFrom(encode_tensor(x))
    return request


def test_versions_are_chosen_by_number_and_the_first_divergence_is_named(servable: Servable, other: Servable) -> None:
    metrics = Metrics()
    repository: Any = Versions(servable, other)
    method = ComparisonMethod(repository, metrics, Limits())
    request = request_of(X)
    request.right.version = 1
    found = stream(method, request)
    assert found.first_divergence is not None
    assert found.first_divergence.startswith("Dense_1/")
    assert next(iter(found)) == "reshape:0"
    assert not found["Dense_0"].diverges
    assert found["Dense_1"].diverges
    assert found.not_compared == {}
    assert found.digests == (servable.digest, other.digest)
    assert len(set(found.digests)) == 2
    request.rtol = 10
    assert stream(method, request).first_divergence is None
    for stage in STAGES["CompareActivations"]:
        labels = {"method": "CompareActivations", "stage": stage}
        assert metrics.registry.get_sample_value("fluoroscope_stage_seconds_count", labels) == 2


@pytest.mark.parametrize(
    ("change", "field", "message"),
    [
        (
            lambda request: request.right.MergeFrom(type(request.right)(label="x")),
            "right.label",
            "on the right side, model 'digits' has no label 'x'; it has none",
        ),
        (lambda request: setattr(request, "rtol", -1), "rtol", "rtol is -1.0"),
        (lambda request: setattr(request, "atol", float("nan")), "atol", "atol is nan"),
        (lambda request: request.sites.append("Dense_9"), "sites[1]", "no site 'Dense_9'; nearest"),
        (lambda request: request.left.inputs["image"].Clear(), "left.inputs[image]", "on the left side, input 'image'"),
    ],
)
def test_wrong_turns(change: Callable[[Any], object], field: str, message: str, servable: Servable) -> None:
    request = request_of(X)
    change(request)
    with pytest.raises((InvalidRequestError, NotFoundError)) as caught:
        stream(ComparisonMethod(repository_of(servable), Metrics(), Limits()), request)
    assert caught.value.field == field
    assert message in caught.value.message
