"""A thousand different questions to one network, as many people ask in a week: nothing grows."""

from __future__ import annotations

import gc
import itertools
import random
import weakref
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

import numpy as np
from jax.ad_checkpoint import checkpoint_name

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import jax
    from tests.server.engine.conftest import Lab

    Sites = tuple[str, ...]

SITES = 12
CAPACITY = 16
QUESTIONS = 1_000


def copies(variables: Any, inputs: Mapping[str, jax.Array]) -> dict[str, jax.Array]:  # noqa: ARG001 (what a network is called with)
    """Names each of its inputs: a network in which the compiler has as little to do as can be."""
    return {name: checkpoint_name(value, f"copies/{name}") for name, value in inputs.items()}


def test_a_thousand_selections(function_lab: Callable[..., Lab], batch: Callable[..., np.ndarray]) -> None:
    names = [f"x{index}" for index in range(SITES)]
    lab = function_lab(copies, capacity=CAPACITY, inputs={name: {"shape": [4]} for name in names})
    paths = [f"copies/{name}" for name in names]
    every = itertools.chain.from_iterable(itertools.combinations(paths, size) for size in range(1, SITES))
    questions = list(itertools.islice(every, QUESTIONS))
    shuffled = random.Random(0)
    predictions = len(lab.compiled)
    alive: weakref.WeakSet[Any] = weakref.WeakSet()
    held: OrderedDict[Sites, int] = OrderedDict()  # what should be, by the definition of LRU

    def ask(sites: Sites) -> None:
        program = lab.program(lab.inspect(*sites))
        assert held.get(sites, id(program)) == id(program), "no program is compiled twice while it is held"
        held[sites] = id(program)
        held.move_to_end(sites)
        while len(held) > CAPACITY:
            held.popitem(last=False)
        alive.add(program.stages[0].executable)

    for question in questions:
        ask(question)
        ask(shuffled.choice([*held]))  # somebody asks again for what is held
        assert len(lab.engine._programs) <= CAPACITY
    assert len(lab.compiled) - predictions == len(questions) == QUESTIONS
    assert all(lab.engine.program(lab.inspect(*sites).plan).done() for sites in held)
    gc.collect()
    assert len(alive) == CAPACITY, "what is held no more is gone"
    inputs = [batch(4) * (1 + index) for index in range(SITES)]
    asked = lab.inspect(*questions[-1])
    for spec, value in zip(asked.results, lab.run(asked, *inputs), strict=True):
        np.testing.assert_array_equal(value, inputs[paths.index(spec.name)], strict=True)
