"""The config of a model: each wrong value is named, with what is right."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fluoroscope.wire.dtype import DTYPES
from fluoroscope_server.errors import ConfigError
from fluoroscope_server.model_config import DEFAULT_BUCKETS, Canary, ModelConfig, Preset, parse_dtype
from fluoroscope_server.signature import BATCH, TensorSpec

LEAST: dict[str, Any] = {"family": "f", "inputs": {"x": {}}}


def test_the_least() -> None:
    assert ModelConfig.parse(LEAST) == ModelConfig(
        family="f",
        inputs=(TensorSpec(name="x", dtype=np.dtype(np.float32), shape=(BATCH,)),),
        buckets=DEFAULT_BUCKETS,
    )


def test_everything() -> None:
    config = ModelConfig.parse(
        {
            "family": "pkg.nets:build",
            "config": {"depth": 3},
            "inputs": {"tokens": {"dtype": "int32", "shape": [7]}, "mask": {"dtype": "bfloat16", "shape": [7, 2]}},
            "outputs": ["logits", "aux"],
            "buckets": [8, 1, 8, 2],
            "max_delay": 0,
            "presets": {
                "health": {"sites": "**", "kinds": ["module"], "reduce": "statistics", "buckets": [8, 1]},
                "attention": {"sites": ["a", "b"]},
            },
            "canary": {"allow_nonfinite": True},
            "item": "params",
            "prefix": "a/b",
        }
    )
    assert config.config == {"depth": 3}
    assert [str(spec) for spec in config.inputs] == ["tokens: int32[batch, 7]", "mask: bfloat16[batch, 7, 2]"]
    assert config.outputs == ("logits", "aux")
    assert config.buckets == (1, 2, 8)
    assert config.max_delay == 0.0
    assert config.presets == {
        "health": Preset(sites=("**",), kinds=("module",), reduce=("statistics",), buckets=(1, 8)),
        "attention": Preset(sites=("a", "b"), kinds=(), reduce=("full",), buckets=(1, 2, 8)),
    }
    assert config.canary == Canary(run=True, allow_nonfinite=True)
    assert (config.item, config.prefix) == ("params", "a/b")


def test_the_canary_can_be_switched_off() -> None:
    assert ModelConfig.parse(LEAST).canary == Canary(run=True, allow_nonfinite=False)
    assert ModelConfig.parse({**LEAST, "canary": False}).canary.run is False


def test_the_operators_family_overrides() -> None:
    assert ModelConfig.parse(LEAST, family="mine").family == "mine"
    assert ModelConfig.parse({"inputs": {"x": {}}}, family="mine").family == "mine"
    assert ModelConfig.parse(LEAST, family=None).family == "f"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"bucket": [1]},
            "the model config has an unknown key 'bucket'; nearest: 'buckets'.*; known: family, config, inputs",
        ),
        ({"family": None}, 'names no `family`; a config looks like {"family": "base_network"'),
        ({"family": ""}, "names no `family`"),
        ({"family": 3}, "names no `family`"),
        ({"config": [1]}, r"`config` must be an object with named values, not \[1\]"),
        ({"config": None}, "`config` must be an object with named values, not None"),
        ({"inputs": None}, r"has no `inputs`: name each with dtype and shape \(without the batch axis\), as in {"),
        ({"inputs": {}}, "has no `inputs`"),
        ({"inputs": ["x"]}, r"`inputs` must be an object with named values, not \['x'\]"),
        ({"inputs": {"x": [2]}}, r"input 'x' must be an object with named values, not \[2\]"),
        (
            {"inputs": {"x": {"sahpe": [2]}}},
            "input 'x' has an unknown key 'sahpe'; nearest: 'shape'.*; known: dtype, shape",
        ),
        ({"inputs": {"x": {"shape": 2}}}, "the shape of input 'x' must be a list of positive sizes, not 2"),
        (
            {"inputs": {"x": {"shape": [-1, 2]}}},
            r"the shape of input 'x' must be a list of positive sizes, not \[-1, 2\]",
        ),
        ({"inputs": {"x": {"shape": [0]}}}, "must be a list of positive sizes"),
        ({"inputs": {"x": {"shape": [True]}}}, "must be a list of positive sizes"),
        ({"inputs": {"x": {"shape": [2.0]}}}, "must be a list of positive sizes"),
        ({"inputs": {"x": {"dtype": "float23"}}}, "'float23' is no dtype; nearest: 'float32'"),
        ({"presets": ["health"]}, r"`presets` must be an object with named values, not \['health'\]"),
        ({"presets": {"health": "**"}}, r"preset 'health' must be an object with named values, not '\*\*'"),
        (
            {"presets": {"health": {"site": "**"}}},
            "preset 'health' has an unknown key 'site'; nearest: 'sites'.*; known: sites, kinds, reduce, buckets",
        ),
        ({"presets": {"health": {"kinds": ["module"]}}}, "preset 'health' names no `sites`; presets look like {"),
        ({"presets": {"health": {"sites": [3]}}}, r"`sites` of preset 'health' must be a list of names, not \[3\]"),
        ({"presets": {"a": {"sites": "x", "reduce": {}}}}, "`reduce` of preset 'a' must be a list of names, not {}"),
        ({"presets": {"a": {"sites": "x", "kinds": ["b", "b"]}}}, "`kinds` of preset 'a' names something twice"),
        (
            {"buckets": [1, 8], "presets": {"a": {"sites": "x", "buckets": [2, 8, 3]}}},
            "preset 'a' is for batches of 2, 3, and the buckets of the model are 1, 8",
        ),
        ({"presets": {"a": {"sites": "x", "buckets": []}}}, "`buckets` of preset 'a' must be a list of positive"),
        ({"outputs": "logits"}, "`outputs` must be a list of names, not 'logits'"),
        ({"outputs": [""]}, r"`outputs` must be a list of names, not \[''\]"),
        ({"outputs": [3]}, "`outputs` must be a list of names"),
        ({"outputs": ["a", "b", "a"]}, "`outputs` names something twice"),
        ({"buckets": []}, r"`buckets` must be a list of positive batch sizes, not \[\]"),
        ({"buckets": 8}, "`buckets` must be a list of positive batch sizes, not 8"),
        ({"buckets": [0, 1]}, "`buckets` must be a list of positive batch sizes"),
        ({"buckets": [True]}, "`buckets` must be a list of positive batch sizes"),
        ({"max_delay": -0.1}, "`max_delay` must be a number of seconds, 0 or more, not -0.1"),
        ({"max_delay": float("nan")}, "`max_delay` must be a number of seconds"),
        ({"max_delay": float("inf")}, "`max_delay` must be a number of seconds"),
        ({"max_delay": "5ms"}, "`max_delay` must be a number of seconds"),
        ({"max_delay": True}, "`max_delay` must be a number of seconds"),
        ({"canary": 3}, "`canary` must be an object with named values, not 3"),
        ({"canary": {"allow": True}}, "`canary` has an unknown key 'allow'; nearest: 'allow_nonfinite'"),
        ({"canary": {"run": 1}}, "`run` of `canary` must be true or false, not 1"),
        ({"item": 3}, "`item` must be text, not 3"),
        ({"prefix": ["a"]}, r"`prefix` must be text, not \['a'\]"),
    ],
)
def test_refusals(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ModelConfig.parse({**LEAST, **changes})


def test_no_object_at_all() -> None:
    with pytest.raises(ConfigError, match=r"the model config must be an object with named values, not \[\]"):
        ModelConfig.parse([])  # type: ignore[arg-type]  # JSON can hold anything


@pytest.mark.parametrize("dtype", DTYPES.values(), ids=str)
def test_every_type_that_the_wire_carries(dtype: np.dtype) -> None:
    assert parse_dtype(str(dtype)) == dtype


@pytest.mark.parametrize(
    "name",
    [
        "",
        "object",
        "O",
        "str",
        ">f4",
        "finfo",
        "__doc__",
        "float32,int32",
        ",",
        "(2,)f4",
        "datetime64",
        "V8",
        3,
        None,
        {},
    ],
)
def test_no_other_type(name: object) -> None:
    with pytest.raises(ConfigError, match=r"is no dtype; nearest: .*; known: bool, int2, int4"):
        parse_dtype(name)
