"""Names of sites of a network, and examples of builtin families that are served, in one line."""

from __future__ import annotations

import asyncio
import itertools
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
import pytest

from fluoroscope_server.engine import Capture, Full, paired, read
from fluoroscope_server.engine.traced import trace
from fluoroscope_server.serving import StageClock, load
from fluoroscope_server.settings import ModelSource

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import flax.linen as nn

    from fluoroscope_server.engine import Engine, Gradient, SiteKind
    from fluoroscope_server.families import Network
    from fluoroscope_server.serving import DeviceQueue, Servable

    from ...builtin_families import Example


@pytest.fixture(scope="session")
def site_paths() -> Callable[..., list[str]]:
    """Returns the paths of the sites of a network, of one kind if asked."""

    def paths(network: Network, kind: SiteKind | None = None) -> list[str]:
        return [site.path for site in trace(network, (1, 4)).sites if kind in {None, site.kind}]

    return paths


class Served:
    """A network that was saved by Orbax and loaded as the server loads it."""

    def __init__(self, example: Example, servable: Servable, variables: Any) -> None:
        self.example = example
        self.servable = servable
        self.variables = variables

    def predict(self, x: np.ndarray) -> np.ndarray:
        """Returns the logits."""
        return asyncio.run(self._predict(x))["logits"]

    async def _predict(self, x: np.ndarray) -> dict[str, np.ndarray]:
        return await self.servable.predict({"x": x}, (), StageClock())

    def capture(
        self, x: np.ndarray, *sites: str, kinds: tuple[SiteKind, ...] = (), gradient: Gradient | None = None
    ) -> dict[str, Any]:
        """Returns the values at sites by path, or gradients."""
        question = Capture(sites=sites, kinds=kinds, slices=(), reductions=(Full(),))
        engine = self.servable.engine
        inspection = engine.inspect([question], (), rows=len(x), gradient=gradient)
        stages = engine.run(engine.program(inspection.plan).result(60), [x], inspection)
        arrays = itertools.chain.from_iterable(stages)
        return {spec.name: read(spec, each) for spec, each in paired(inspection.results, arrays)}


@pytest.fixture(scope="session")
def serve(device: DeviceQueue, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Served]]:
    """Saves an example of a builtin family and loads it: `serve(example, variables)`.

    Variables are drawn if none are given; an example that is asked for again, without any, is the same one.
    """
    drawn: dict[str, Served] = {}
    engines: list[Engine] = []

    def load_saved(example: Example, variables: Any) -> Served:
        folder = example.save(tmp_path_factory.mktemp(example.family), variables)
        source = ModelSource(name=example.family, path=folder)
        servable = load(source, device, capacity=8, on_compile=lambda _: None)
        engines.append(servable.engine)
        return Served(example, servable, variables)

    def make(example: Example, variables: Any = None) -> Served:
        if variables is not None:
            return load_saved(example, variables)
        if example.family not in drawn:
            drawn[example.family] = load_saved(example, example.variables())
        return drawn[example.family]

    yield make
    for engine in engines:
        engine.close()


@pytest.fixture(scope="session")
def intermediates() -> Callable[..., dict[str, np.ndarray]]:
    """Returns what each module of a Linen network returns, by its path, as Flax captures it."""

    def captured(module: nn.Module, variables: Any, *inputs: Any) -> dict[str, np.ndarray]:
        apply = jax.jit(
            lambda variables: module.apply(variables, *inputs, capture_intermediates=True, mutable="intermediates")
        )
        _, state = apply(variables)
        leaves = jax.tree_util.tree_leaves_with_path(state["intermediates"])
        return {_module_path(place): np.asarray(value) for place, value in leaves}

    return captured


def _module_path(place: tuple[Any, ...]) -> str:
    """Returns the path of a module, of the place of what it returned among all that Flax captured."""
    names = [key.key for key in place if isinstance(key, jax.tree_util.DictKey)]
    return "/".join(names).removesuffix("/__call__")
