"""Presets: compiled when the model is loaded, for whoever asks the same; what cannot be is told to the operator."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from fluoroscope_server.engine import (
    Capture,
    Covariance,
    DeadUnits,
    Full,
    Histogram,
    Mean,
    Norm,
    Quantiles,
    SiteKind,
    Statistics,
    TopK,
)
from fluoroscope_server.errors import ConfigError
from fluoroscope_server.serving import StageClock, load, presets
from fluoroscope_server.serving.presets import KINDS
from fluoroscope_server.settings import ModelSource

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from fluoroscope_server.engine import Reduction
    from fluoroscope_server.serving import DeviceQueue, Servable

HEALTH = {"sites": ["**"], "kinds": ["module"], "reduce": ["statistics"]}


@pytest.fixture
def load_model(
    tmp_path: Path, save: Callable[..., Path], device: DeviceQueue, model_config: dict[str, Any], variables: Any
) -> Iterator[Callable[..., Servable]]:
    """Loads the small network with these presets; `told` gets the seconds of each compilation."""
    loaded: list[Servable] = []

    def make(presets: Any, told: list[float] | None = None) -> Servable:
        path = save(tmp_path / "run", variables, {**model_config, "presets": presets})
        on_compile = (told if told is not None else []).append
        loaded.append(load(ModelSource(name="digits", path=path), device, capacity=1, on_compile=on_compile))
        return loaded[-1]

    yield make
    for each in loaded:
        each.engine.close()


def held(servable: Servable, capture: Capture, rows: int) -> bool:
    async def ask() -> bool:
        inputs = {"image": np.zeros((rows, 2, 2), np.float32)}
        answer = await servable.inspect(inputs, [capture], (), max_bytes=1 << 30, clock=StageClock())
        return answer.held

    return asyncio.run(ask())


def test_the_first_who_asks_finds_it_held(load_model: Callable[..., Servable]) -> None:
    servable = load_model({"health": HEALTH, "first": {"sites": "Dense_0", "kinds": "MODULE"}})
    health = Capture(sites=("**",), kinds=(SiteKind.MODULE,), reductions=(Statistics(),))
    by_name = Capture(sites=("__call__", "Dense_?"), reductions=(Statistics(),))  # the same sites, so the same program
    for rows in (1, 3, 4):
        for capture in (health, by_name, Capture(sites=("Dense_0",), reductions=(Full(),))):
            assert held(servable, capture, rows)
    assert not held(servable, Capture(sites=("Dense_1",)), 4)


def test_it_is_held_for_good(load_model: Callable[..., Servable]) -> None:
    servable = load_model({"first": {"sites": ["Dense_0"]}})
    for site in ("Dense_1", "relu:0", "Dense_2"):  # one more than the model holds
        assert not held(servable, Capture(sites=(site,)), 4)
    assert held(servable, Capture(sites=("Dense_0",)), 4)


def test_it_is_compiled_for_its_buckets_once(load_model: Callable[..., Servable]) -> None:
    told: list[float] = []
    presets = {
        "some": {"sites": ["Dense_*"], "buckets": [4]},
        "the same": {"sites": ["Dense_0", "Dense_1", "Dense_2"], "reduce": ["full"], "buckets": [4]},
    }
    servable = load_model(presets, told)
    assert len(told) == len(servable.engine.buckets) + 1
    assert held(servable, Capture(sites=("Dense_*",)), 2)
    assert not held(servable, Capture(sites=("Dense_*",)), 1)


@pytest.mark.parametrize(
    ("preset", "message"),
    [
        ({"sites": ["Dense_7"]}, "there is no site 'Dense_7'; nearest: 'Dense_"),
        ({"sites": ["conv*"]}, "the glob 'conv\\*' matches none of the "),
        ({"sites": ["Dense_0"], "kinds": ["named"]}, "site 'Dense_0' is of kind MODULE, and kinds asks for NAMED"),
        ({"sites": ["**"], "kinds": ["modul"]}, "'modul' is no kind of site; nearest: 'module'"),
        ({"sites": ["**"], "reduce": ["statistic"]}, "'statistic' is no reduction; nearest: 'statistics'"),
        (
            {"sites": ["**"], "reduce": ["histogram:bins=many"]},
            "'histogram:bins=many' is no reduction: expected such as",
        ),
        ({"sites": ["**"], "reduce": ["quantiles"]}, "'quantiles' is no reduction: expected such as"),
        ({"sites": ["**"], "reduce": ["topk:n=3"]}, "'topk:n=3' has an option 'n' that topk does not know"),
    ],
)
def test_what_the_network_has_not(preset: Any, message: str, load_model: Callable[..., Servable]) -> None:
    with pytest.raises(ConfigError, match=f"^model 'digits': preset 'mine': {message}"):
        load_model({"mine": preset})


def test_every_kind_has_a_word() -> None:
    assert set(KINDS.values()) == set(SiteKind)


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("statistics", Statistics()),
        ("histogram", Histogram(bins=50)),
        ("histogram:bins=7,low=0,high=1", Histogram(bins=7)),
        ("quantiles:0.05,0.5", Quantiles(probabilities=(0.1, 0.2))),
        ("norm:axes=0,-1,order=1", Norm(axes=(0, -1), order=1.0)),
        ("mean:axes=0", Mean(axes=(0,))),
        ("topk:k=3", TopK(k=3)),
        ("top_k", TopK(k=10)),
        ("dead", DeadUnits()),
        ("covariance", Covariance()),
    ],
)
def test_words_for_reductions(word: str, expected: Reduction) -> None:
    """What shapes the program is read; what is only a number of a request is not part of it."""
    assert presets.reduction_of(word) == expected
