"""From a name to a network: builtins, import paths, and whatever an operator's code does wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import flax.linen as nn
import pytest

from fluoroscope_server.errors import ConfigError
from fluoroscope_server.families import build_network

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from fluoroscope_server.model_config import ModelConfig


def test_builtin(config: Callable[..., ModelConfig], site_paths: Callable[..., list[str]]) -> None:
    network = build_network(config(config={"hidden_sizes": [3], "num_classes": 2}), {})
    assert network.root == "BaseNetwork"
    assert [path for path in site_paths(network) if "activations" in path] == [f"activations/{i}" for i in range(3)]


def test_the_config_reaches_the_family(config: Callable[..., ModelConfig], family: Callable[[Any], str]) -> None:
    came: list[object] = []

    def build(given: object) -> nn.Module:
        came.append(given)
        return nn.Dense(3)

    build_network(config(family=family(build), config={"depth": 7}), {})
    assert came == [{"depth": 7}]


def fails(_: object) -> None:
    raise KeyError("depth")


def refuses(_: object) -> None:
    raise ConfigError("my_net has no 'depht'")


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (lambda _: 3, "family 'family_under_test:build' returned a int; it must return a Linen module, an NNX module"),
        (lambda _: None, "returned a NoneType; it must return"),
        (lambda _: nn.Dense, "returned the class Dense, not an instance; it must return"),
        (fails, "family 'family_under_test:build' failed on its config {'a': 1}: KeyError: 'depth'"),
        (refuses, "^my_net has no 'depht'$"),
        (lambda: None, "failed on its config {'a': 1}: TypeError"),
        (3, "failed on its config {'a': 1}: TypeError: 'int' object is not callable"),
    ],
)
def test_families_that_fail(
    made: Any, message: str, config: Callable[..., ModelConfig], family: Callable[[Any], str]
) -> None:
    with pytest.raises(ConfigError, match=message):
        build_network(config(family=family(made), config={"a": 1}), {})


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "base_netwrok",
            r"no builtin family 'base_netwrok' \(there are base_network, cnn, vit, transformer, nnx_mlp\); your own is",
        ),
        ("my.module", "there is no builtin family 'my.module'"),
        ("my.module:", "there is no builtin family 'my.module:'"),
        ("no_such_package.nets:build", "cannot be imported: ModuleNotFoundError: No module named 'no_such_package'"),
        ("json:no_such_function", "cannot be imported: AttributeError: .*no_such_function.*on PYTHONPATH"),
        (":build", "cannot be imported: ValueError"),
        (".relative:build", "cannot be imported: TypeError"),
    ],
)
def test_names_that_mean_nothing(name: str, message: str, config: Callable[..., ModelConfig]) -> None:
    with pytest.raises(ConfigError, match=message):
        build_network(config(family=name), {})


def test_a_module_that_fails_when_imported(
    config: Callable[..., ModelConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken_family.py").write_text("raise RuntimeError('no licence')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigError, match="cannot be imported: RuntimeError: no licence"):
        build_network(config(family="broken_family:build"), {})
