"""What an operator says about a model: the JSON `config` item of its checkpoint, or its model.toml."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from fluoroscope.wire.dtype import DTYPES
from fluoroscope_server.errors import ConfigError, nearest
from fluoroscope_server.signature import BATCH, TensorSpec

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import numpy as np

DEFAULT_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
"""The batch sizes to compile for when the config names none. The last ones are for requests that are joined."""

PRESET_EXAMPLE = '{"health": {"sites": ["**"], "kinds": ["module"], "reduce": ["statistics"]}}'

EXAMPLE = '{"family": "base_network", "config": {...}, "inputs": {"image": {"dtype": "float32", "shape": [28, 28]}}}'


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    """An inspection that is compiled when the model is loaded."""

    sites: tuple[str, ...]
    """Names and globs of sites."""

    kinds: tuple[str, ...] = ()
    """The kinds of site to keep, as words; empty means all."""

    reduce: tuple[str, ...] = ("full",)
    """What to compute of each value, as words; each gives one result."""

    buckets: tuple[int, ...]
    """The batch sizes to compile it for, ascending."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Canary:
    """What is tried of a network before it serves."""

    run: bool = True
    """Whether to run it on plain inputs."""

    allow_nonfinite: bool = False
    """Whether weights and outputs may be NaN or infinite."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelConfig:
    """A network as a family and its config, the inputs it takes, and how to serve it."""

    family: str
    """A builtin family, or `package.module:callable`."""

    config: Mapping[str, Any] = field(default_factory=dict)
    """What the family is called with."""

    inputs: tuple[TensorSpec, ...]
    """The inputs, in the order in which the network takes them; their first axis is the batch."""

    outputs: tuple[str, ...] = ()
    """Names for the outputs, in the network's order; a network that returns a dict has named them already. Empty
    means the names in that dict, or `output`, or `output_0`, `output_1`, ..."""

    buckets: tuple[int, ...] = DEFAULT_BUCKETS
    """The batch sizes to compile for, ascending."""

    max_delay: float | None = None
    """How many seconds a prediction that finds the device free waits for others to go with. None means: as the server's
    own setting says."""

    presets: Mapping[str, Preset] = field(default_factory=dict)
    """Inspections to compile when the model is loaded, by name."""

    canary: Canary = field(default_factory=Canary)
    """What is tried of the network before it serves."""

    item: str | None = None
    """The checkpoint item that holds the weights. None means: find out."""

    prefix: str | None = None
    """The path of the weights within that item, with slashes. None means: find out."""

    @classmethod
    def parse(cls, raw: Mapping[str, Any], *, family: str | None = None) -> ModelConfig:
        """Checks a config as it was read from JSON or TOML; `family` overrides the one it names.

        Raises:
            ConfigError: a key is missing, unknown, or has a value of the wrong form.
        """
        raw = _mapping(raw, "the model config")
        _known_keys(raw, "the model config", cls.__dataclass_fields__)
        family = family or raw.get("family")
        if not isinstance(family, str) or not family:
            raise ConfigError(f"the model config names no `family`; a config looks like {EXAMPLE}")
        buckets = _buckets(raw.get("buckets", DEFAULT_BUCKETS), "`buckets`")
        return cls(
            family=family,
            config=_mapping(raw.get("config", {}), "`config`"),
            inputs=_inputs(raw.get("inputs")),
            outputs=_names(raw.get("outputs", ()), "`outputs`"),
            buckets=buckets,
            max_delay=_seconds(raw.get("max_delay"), "`max_delay`"),
            presets=_presets(raw.get("presets", {}), buckets),
            canary=_canary(raw.get("canary", True)),
            item=_text(raw.get("item"), "`item`"),
            prefix=_text(raw.get("prefix"), "`prefix`"),
        )


def parse_dtype(name: object) -> np.dtype:
    """Returns the dtype of that name, of those that the wire carries; raises ConfigError."""
    dtype = next((each for each in DTYPES.values() if each.name == name), None)
    if dtype is None:
        known = [each.name for each in DTYPES.values()]
        raise ConfigError(f"{name!r} is no dtype; nearest: {nearest(str(name), known)}; known: {', '.join(known)}")
    return dtype


def _inputs(raw: object) -> tuple[TensorSpec, ...]:
    if not raw:
        raise ConfigError(
            "the model config has no `inputs`: name each with dtype and shape (without the batch axis), "
            f"as in {EXAMPLE}"
        )
    return tuple(_input(name, spec) for name, spec in _mapping(raw, "`inputs`").items())


def _input(name: str, raw: object) -> TensorSpec:
    spec = _mapping(raw, f"input {name!r}")
    _known_keys(spec, f"input {name!r}", ("dtype", "shape"))
    shape = spec.get("shape", ())
    if not isinstance(shape, list | tuple) or not all(_is_count(size) for size in shape):
        raise ConfigError(f"the shape of input {name!r} must be a list of positive sizes, not {shape!r}")
    return TensorSpec(name=name, dtype=parse_dtype(spec.get("dtype", "float32")), shape=(BATCH, *shape))


def _presets(raw: object, buckets: tuple[int, ...]) -> dict[str, Preset]:
    return {name: _preset(each, f"preset {name!r}", buckets) for name, each in _mapping(raw, "`presets`").items()}


def _preset(raw: object, what: str, buckets: tuple[int, ...]) -> Preset:
    spec = _mapping(raw, what)
    _known_keys(spec, what, Preset.__dataclass_fields__)
    sites = _words(spec.get("sites", ()), f"`sites` of {what}")
    if not sites:
        raise ConfigError(f"{what} names no `sites`; presets look like {PRESET_EXAMPLE}")
    wanted = _buckets(spec.get("buckets", buckets), f"`buckets` of {what}")
    if unknown := [size for size in wanted if size not in buckets]:
        raise ConfigError(
            f"{what} is for batches of {', '.join(map(str, unknown))}, and the buckets of the model are "
            f"{', '.join(map(str, buckets))}"
        )
    return Preset(
        sites=sites,
        kinds=_words(spec.get("kinds", ()), f"`kinds` of {what}"),
        reduce=_words(spec.get("reduce", ()), f"`reduce` of {what}") or ("full",),
        buckets=wanted,
    )


def _canary(raw: object) -> Canary:
    if isinstance(raw, bool):
        return Canary(run=raw)
    spec = _mapping(raw, "`canary`")
    _known_keys(spec, "`canary`", Canary.__dataclass_fields__)
    for key, value in spec.items():
        if not isinstance(value, bool):
            raise ConfigError(f"`{key}` of `canary` must be true or false, not {value!r}")
    return Canary(**spec)


def _words(raw: object, what: str) -> tuple[str, ...]:
    """Returns one word or several, as the client takes them."""
    return _names([raw] if isinstance(raw, str) else raw, what)


def _names(raw: object, what: str) -> tuple[str, ...]:
    if not isinstance(raw, list | tuple) or not all(isinstance(name, str) and name for name in raw):
        raise ConfigError(f"{what} must be a list of names, not {raw!r}")
    if len(set(raw)) != len(raw):
        raise ConfigError(f"{what} names something twice: {raw!r}")
    return tuple(raw)


def _buckets(raw: object, what: str) -> tuple[int, ...]:
    if not isinstance(raw, list | tuple) or not raw or not all(_is_count(size) for size in raw):
        raise ConfigError(f"{what} must be a list of positive batch sizes, not {raw!r}")
    return tuple(sorted(set(raw)))


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _seconds(raw: object, what: str) -> float | None:
    if raw is None:
        return None
    if not isinstance(raw, int | float) or isinstance(raw, bool) or not 0 <= raw < math.inf:
        raise ConfigError(f"{what} must be a number of seconds, 0 or more, not {raw!r}")
    return float(raw)


def _text(raw: object, what: str) -> str | None:
    if raw is not None and not isinstance(raw, str):
        raise ConfigError(f"{what} must be text, not {raw!r}")
    return raw


def _mapping(raw: object, what: str) -> dict[str, Any]:
    if not isinstance(raw, dict):
        raise ConfigError(f"{what} must be an object with named values, not {raw!r}")
    return raw


def _known_keys(raw: Mapping[str, object], what: str, known: Iterable[str]) -> None:
    names = list(known)
    for key in raw:
        if key not in names:
            raise ConfigError(
                f"{what} has an unknown key {key!r}; nearest: {nearest(key, names)}; known: {', '.join(names)}"
            )
