"""A house of models: real steps on disk, really loaded, and everything that loads, swaps and watches them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import orbax.checkpoint as ocp

from fluoroscope_server.metrics import Metrics
from fluoroscope_server.serving import (
    ModelEntry,
    Operations,
    Reports,
    Repository,
    StageClock,
    Swapper,
    Watcher,
    load,
)
from fluoroscope_server.serving.model_entry import Loaded
from fluoroscope_server.settings import Swap

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from fluoroscope_server.serving import DeviceQueue, Selector, Servable
    from fluoroscope_server.settings import ModelSource

CONFIG = {
    "family": "base_network",
    "config": {"hidden_sizes": [2], "num_classes": 3},
    "inputs": {"x": {"shape": [2]}},
    "outputs": ["logits"],
    "buckets": [1, 4],
}
X = np.ones((1, 2), np.float32)


def weights(value: float) -> dict[str, Any]:
    """Weights with which the network answers `value`, whatever it is asked."""
    layers = {"Dense_0": (2, 2, 0.0), "Dense_1": (2, 3, value)}
    return {
        "params": {
            name: {"kernel": np.zeros((rows, columns), np.float32), "bias": np.full(columns, bias, np.float32)}
            for name, (rows, columns, bias) in layers.items()
        }
    }


def items(value: float, config: dict[str, Any] | None = None) -> ocp.args.Composite:
    """What a training script saves in one step."""
    return ocp.args.Composite(params=ocp.args.StandardSave(weights(value)), config=ocp.args.JsonSave(config or CONFIG))


def write_step(model: Path, step: int, *, value: float | None = None, config: dict[str, Any] | None = None) -> Path:
    """Saves a step that answers its own number, or `value`; in the place of one that is there."""
    folder = model / str(step)
    with ocp.Checkpointer(ocp.CompositeCheckpointHandler()) as checkpointer:
        checkpointer.save(folder, args=items(step if value is None else value, config), force=True)
    return folder


def damage(folder: Path) -> Path:
    """Takes from a step what its weights are made of."""
    for file in [*folder.rglob("d/*"), *folder.rglob("manifest.ocdbt")]:
        file.write_bytes(b"")
    return folder


def repository_of(servable: Servable, *others: str) -> Repository:
    """Returns a repository in which this serves; the models of these other names are still being loaded."""
    repository = Repository()
    for name in (servable.name, *others):
        repository.put(ModelEntry(name))
    repository.entry(servable.name).loaded[servable.version] = Loaded(servable=servable)
    return repository


PATIENCE = 0.05
"""How many seconds a call may hold up a version that was unloaded."""


class House:
    """The models of one server, in a folder of their own."""

    def __init__(self, folder: Path, device: DeviceQueue, *, swap: Swap = Swap.KEEP) -> None:
        """Knows no model yet. Made on an event loop."""
        folder.mkdir(exist_ok=True)
        self.folder = folder
        self.metrics = Metrics()
        self.said: list[str] = []
        self.health: dict[str, bool] = {}
        self.loads: list[tuple[str, int | None]] = []
        """What was loaded, or tried."""
        self.before: Callable[[str, int | None], None] = lambda _, __: None
        """Called on the loading thread before each load."""
        self.heard: Callable[[str], None] = lambda _: None
        """Called with each line that is said."""
        self.health_changed: Callable[[str, bool], None] = lambda _, __: None
        """Called when the health of a model is set."""
        self.require_seal = False
        """Whether to refuse what is not sealed."""
        self.unread: Callable[[asyncio.Task[Any] | None], int] = lambda _: 0
        """Which message of a call its client has not taken yet."""
        self._device = device
        self.repository = Repository()
        reports = Reports(self.metrics, announce=self._hear, set_health=self._set_health)
        self.swapper = Swapper(
            self._load,
            reports,
            swap=swap,
            patience=PATIENCE,
            unread=self._unread,
            end=_cancel,
        )
        self.operations = Operations(self.repository, self.swapper, reports, folder=folder)
        self.watcher = Watcher(self.repository, self.operations, seconds=0.01)

    async def __aenter__(self) -> Self:
        await self.watcher.look()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.operations.close()
        self.repository.close()

    def _unread(self, call: asyncio.Task[Any] | None) -> int:
        return self.unread(call)

    def _set_health(self, name: str, serving: bool) -> None:
        self.health[name] = serving
        self.health_changed(name, serving)

    def _hear(self, line: str) -> None:
        self.said.append(line)
        self.heard(line)

    def _load(self, source: ModelSource, step: int | None) -> Servable:
        self.loads.append((source.name, step))
        self.before(source.name, step)
        return load(
            source,
            self._device,
            step=step,
            capacity=4,
            on_compile=lambda _: None,
            require_seal=self.require_seal,
        )

    def entry(self, name: str = "net") -> ModelEntry:
        return self.repository.entry(name)

    def loaded(self, name: str = "net") -> list[int]:
        return sorted(self.entry(name).loaded)

    async def ask(self, selector: Selector = None, name: str = "net") -> tuple[int, float]:
        """Returns the version that answered, and its answer, which must be one number three times."""
        return await asyncio.ensure_future(self._ask(selector, name))  # a request is a task of its own

    async def _ask(self, selector: Selector, name: str) -> tuple[int, float]:
        servable = self.repository.get(name, selector)
        (row,) = (await servable.predict({"x": X}, (), StageClock()))["logits"]
        assert len(set(row.tolist())) == 1, f"an answer of two networks: {row}"
        return servable.version, float(row[0])

    async def answers(self, selector: Selector = None, name: str = "net") -> int:
        """Returns the version that answers, which must answer its own number."""
        version, value = await self.ask(selector, name)
        assert value == version
        return version

    async def released(self) -> None:
        """Waits until all that is superseded is gone."""
        await self.swapper.released()

    def sample(self, name: str, **labels: str) -> float | None:
        return self.metrics.registry.get_sample_value(name, labels)

    def refusals(self, reason: str, name: str = "net") -> float:
        found = self.sample("fluoroscope_refused_checkpoints_total", model=name, reason=reason)
        assert found is not None, f"no series for {reason}"
        return found


def _cancel(call: asyncio.Task[Any] | None) -> None:
    assert call is not None
    call.cancel()
