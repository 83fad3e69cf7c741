"""The config of a family: each value by its key, and what is wrong with it."""

from __future__ import annotations

from typing import Any

import pytest

from fluoroscope_server.errors import ConfigError
from fluoroscope_server.families.family_config import REQUIRED, FamilyConfig

DEFAULTS = {"depth": 2, "widths": (3, 4), "act": "one", "features": REQUIRED}


def config(**given: Any) -> FamilyConfig:
    return FamilyConfig(family="net", given=given, defaults=DEFAULTS)


def test_what_is_not_said_is_the_default() -> None:
    assert config().size("depth") == 2
    assert config().sizes("widths") == (3, 4)
    assert config().choice("act", {"one": 1, "two": 2}) == 1


def test_what_is_said_comes_before_it() -> None:
    assert config(depth=5).size("depth") == 5
    assert config(features=5).size("features") == 5
    assert config(widths=[]).sizes("widths") == ()
    assert config(widths=[7]).sizes("widths") == (7,)
    assert config(act="two").choice("act", {"one": 1, "two": 2}) == 2


def test_an_unknown_key() -> None:
    with pytest.raises(
        ConfigError, match=r"^net has no 'dept'; nearest: 'depth', 'widths'; known: depth, widths, act, features$"
    ):
        config(dept=1)


def test_a_key_that_must_be_said() -> None:
    message = "^net's config must say features, for which nothing can be assumed; it says"
    with pytest.raises(ConfigError, match=f"{message} nothing$"):
        config().size("features")
    with pytest.raises(ConfigError, match=f"{message} depth, act$"):
        config(depth=3, act="one").size("features")


@pytest.mark.parametrize("value", [0, -1, "ten", None, True, [3]])
def test_sizes_that_are_none(value: object) -> None:
    with pytest.raises(ConfigError) as caught:
        config(depth=value).size("depth")
    assert caught.value.message == f"net's depth must be a positive number, not {value!r}"
    with pytest.raises(ConfigError) as caught:
        config(widths=[2, value]).sizes("widths")
    assert caught.value.message == f"net's widths must be a list of positive sizes, not {[2, value]!r}"


@pytest.mark.parametrize("value", [2.5, 2.0, float("nan")])
def test_a_size_is_a_whole_number(value: float) -> None:
    with pytest.raises(ConfigError, match=f"^net's depth must be a positive whole number, not {value}$"):
        config(depth=value).size("depth")


@pytest.mark.parametrize("value", [3, "34", {"0": 3}, None])
def test_a_list_is_a_list(value: object) -> None:
    with pytest.raises(ConfigError, match=r"^net's widths must be a list of positive sizes, not "):
        config(widths=value).sizes("widths")


@pytest.mark.parametrize("name", ["tow", None, ["two"], 2])
def test_a_choice_of_what_is_there(name: object) -> None:
    with pytest.raises(ConfigError) as caught:
        config(act=name).choice("act", {"one": 1, "two": 2})
    assert caught.value.message.startswith(f"net has no act {name!r}; nearest: ")
    assert caught.value.message.endswith("; known: one, two")
