"""Real servers from real checkpoints; each is started once, and must end well."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

import fluoroscope
from fluoroscope_server.families.activation import ACTIVATIONS

from ..builtin_families import EXAMPLES
from . import saved
from .server_process import ServerProcess

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import flax.linen as nn

    from .networks.networks_of_tests import Perceptron

HIDDEN = (16, 12)
CLASSES = 5
BUCKETS = (2, 8)
WIDTH = 32768
WIDE_ROWS = 256
WIDE_HIDDEN = (WIDTH, 8, WIDTH, 8, WIDTH)


@dataclass(frozen=True, slots=True, kw_only=True)
class Saved:
    """Checkpoints on disk, and what was saved in them."""

    folders: dict[str, Path]
    """The folder of each model."""

    base: dict[str, Any]
    """The variables of the seed's network by activation function."""

    convolutions: tuple[nn.Module, Any]
    """A Linen network and its variables."""

    perceptron: Perceptron
    """An NNX network."""

    function: Any
    """The variables of a pure function."""

    builtin: dict[str, Any]
    """The variables of the example of each builtin family, by its name."""


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Saved:
    root = tmp_path_factory.mktemp("checkpoints")
    base = {
        name: saved.save_base_network(
            root / name, act_fn=name, hidden_sizes=HIDDEN, num_classes=CLASSES, buckets=BUCKETS
        )
        for name in ACTIVATIONS
    }
    builtin = {name: example.variables() for name, example in EXAMPLES.items()}
    for name, example in EXAMPLES.items():
        example.save(root / name, builtin[name])
    return Saved(
        folders={name: root / name for name in (*ACTIVATIONS, "convolutions", "perceptron", "function", *EXAMPLES)},
        base=base,
        convolutions=saved.save_convolutions(root / "convolutions"),
        perceptron=saved.save_perceptron(root / "perceptron"),
        function=saved.save_function(root / "function"),
        builtin=builtin,
    )


def ended_well(server: ServerProcess) -> None:
    """Asserts that a server that has run all its tests ends as it should, and never met an error of its own."""
    assert server.stop() == 0, server.said
    assert "internal error" not in server.said, server.said
    assert "fluoroscope_server/" not in server.said, f"a traceback through our code:\n{server.said}"


@pytest.fixture(scope="session")
def server(checkpoints: Saved) -> Iterator[ServerProcess]:
    """All the small models; requests may have 1 MiB, inspections 4 MiB."""
    options = ("--max-request-mib=1", "--max-inspection-mib=4", "--max-programs=1000")
    with ServerProcess(checkpoints.folders, *options) as process:
        yield process.until_ready()
        ended_well(process)


@pytest.fixture(scope="session")
def client(server: ServerProcess) -> Iterator[fluoroscope.Client]:
    with fluoroscope.Client(server.target) as client:
        yield client


@pytest.fixture(scope="session")
def wide_variables(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """A network of few weights whose activations of one batch are 200 MB, and its variables.

    Its activation is exact: where XLA joins another to what is before it, newer versions round it otherwise.
    """
    folder = tmp_path_factory.mktemp("wide") / "wide"
    variables = saved.save_base_network(
        folder, act_fn="relu", hidden_sizes=WIDE_HIDDEN, num_classes=4, buckets=(1, WIDE_ROWS)
    )
    return folder, variables


@pytest.fixture(scope="session")
def wide_server(wide_variables: tuple[Path, Any]) -> Iterator[ServerProcess]:
    with ServerProcess({"wide": wide_variables[0]}) as process:
        yield process.until_ready()
        ended_well(process)
