"""A laboratory: an engine over a small network, asked in one line."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fluoroscope_server.engine import Capture, Engine, Execution, Full, paired, read
from fluoroscope_server.families.function import PureFunction, function_network
from fluoroscope_server.families.linen import Linen, linen_network

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import flax.linen as nn

    from fluoroscope_server.engine import Edit, Gradient, Inspection, Program, Reduction, Result, SiteKind, Slice
    from fluoroscope_server.families import Network
    from fluoroscope_server.model_config import ModelConfig


class Lab:
    """An engine, and what it was told of each compilation."""

    def __init__(self, network: Network, variables: Any, *, buckets: Sequence[int] = (4,), capacity: int = 256) -> None:
        self.compiled: list[float] = []
        self.variables = variables
        self.engine = Engine(
            network,
            variables,
            buckets=buckets,
            capacity=capacity,
            on_compile=self.compiled.append,
        )

    def inspect(
        self,
        *sites: str,
        rows: int = 4,
        kinds: Sequence[SiteKind] = (),
        slices: Sequence[Slice] = (),
        reductions: Sequence[Reduction] = (Full(),),
        outputs: Sequence[str] = (),
        execution: Execution = Execution.AUTO,
        edits: Sequence[Edit] = (),
        gradient: Gradient | None = None,
    ) -> Inspection:
        """Resolves a question of one capture."""
        capture = Capture(sites=sites, kinds=tuple(kinds), slices=tuple(slices), reductions=tuple(reductions))
        captures = [capture] if sites else []
        return self.engine.inspect(captures, outputs, rows=rows, execution=execution, edits=edits, gradient=gradient)

    def program(self, inspection: Inspection) -> Program:
        """Returns the program of a question, compiled now if need be."""
        return self.engine.program(inspection.plan).result(60)

    def run(self, inspection: Inspection, *inputs: np.ndarray, padding: float = 0) -> list[Result]:
        """Answers a question. Rows that only fill the bucket are `padding`."""
        padded = [_padded(each, inspection.plan.bucket, padding) for each in inputs]
        stages = self.engine.run(self.program(inspection), padded, inspection)
        arrays = itertools.chain.from_iterable(stages)
        return [read(spec, each) for spec, each in paired(inspection.results, arrays)]

    def capture(self, *sites: str, x: np.ndarray, padding: float = 0, **question: Any) -> dict[str, Any]:
        """Answers a question of one capture with one reduction, by the names of its results."""
        inspection = self.inspect(*sites, rows=len(x), **question)
        results = self.run(inspection, x, padding=padding)
        return {spec.name: result for spec, result in zip(inspection.results, results, strict=True)}

    def keeps(self, site: str) -> bool:
        """Returns whether an inspection of a site may be joined with those of others."""
        return self.engine.keeps_rows_apart(self.inspect(site, rows=1))

    def predict(self, *inputs: np.ndarray) -> list[np.ndarray]:
        """Returns all outputs."""
        rows = len(inputs[0])
        bucket = self.engine.bucket_for(rows)
        padded = [_padded(each, bucket, 0) for each in inputs]
        return [np.asarray(each)[:rows] for each in self.engine.predict(bucket, padded)]


def _drawn(variables: Any) -> Any:
    """Returns variables of these shapes. Drawn by NumPy: initializers would have to be compiled."""
    generator = np.random.default_rng(0)
    return jax.tree.map(lambda leaf: jnp.asarray(generator.normal(size=leaf.shape, scale=0.5), leaf.dtype), variables)


def _padded(array: np.ndarray, bucket: int, padding: float) -> np.ndarray:
    padded = np.full((bucket, *array.shape[1:]), padding, array.dtype)
    padded[: len(array)] = array
    return padded


@pytest.fixture(scope="session")
def function_lab(config: Callable[..., ModelConfig]) -> Callable[..., Lab]:
    """Makes a laboratory of a pure function of `x: float32[batch, 4]`: `lab(apply, variables={}, **config)`."""

    def make(
        apply: Callable[..., Any],
        variables: Any = None,
        *,
        buckets: Sequence[int] = (4,),
        capacity: int = 256,
        **changes: Any,
    ) -> Lab:
        variables = jax.tree.map(jnp.asarray, {} if variables is None else variables)
        network = function_network(PureFunction(apply=apply, variables=variables), config(**changes))
        return Lab(network, variables, buckets=buckets, capacity=capacity)

    return make


@pytest.fixture(scope="session")
def linen_lab(config: Callable[..., ModelConfig]) -> Callable[..., Lab]:
    """Makes a laboratory of a Linen module of `x: float32[batch, 4]`: `lab(module, buckets=(4,), **config)`."""

    def make(module: nn.Module, *, buckets: Sequence[int] = (4,), **changes: Any) -> Lab:
        network = linen_network(Linen(module=module), config(**changes))
        return Lab(network, _drawn(network.variables), buckets=buckets)

    return make


@pytest.fixture(scope="session")
def batch() -> Callable[..., np.ndarray]:
    """Makes inputs: `batch(rows, features=4)`, normally distributed."""

    def make(rows: int, features: int = 4) -> np.ndarray:
        return np.random.default_rng(rows).normal(size=(rows, features)).astype(np.float32)

    return make
