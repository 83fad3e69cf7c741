"""Values as JSON, for programs."""

from __future__ import annotations

import json
import math
from dataclasses import fields, is_dataclass
from functools import singledispatch
from typing import Any

import click
import numpy as np

from fluoroscope.calls import Activation, Full, Reduction, SiteDeadUnits, SiteHistogram, SiteStatistics, Statistics


def print_json(value: object) -> None:
    """Prints a value as JSON."""
    click.echo(json.dumps(json_of(value), indent=2))


@singledispatch
def json_of(value: object) -> Any:  # JSON has no type of its own
    """Returns a value in terms of JSON.

    NaN and the infinities become "NaN", "Infinity" and "-Infinity", as in protobuf's JSON. An array is an
    object of `dtype`, `shape` and `data`, which is nested lists; a complex number is a list of two.
    """
    return _fields(value) if is_dataclass(value) else value


@json_of.register
def _(value: SiteStatistics) -> dict[str, Any]:
    return _fields(value) | {"var": json_of(value.var), "zero_fraction": json_of(value.zero_fraction)}


@json_of.register
def _(value: SiteHistogram) -> dict[str, Any]:
    return _fields(value) | {"counts": value.counts.tolist()}


@json_of.register
def _(value: SiteDeadUnits) -> dict[str, Any]:
    return _fields(value) | {"zero_counts": value.zero_counts.tolist(), "indices": value.indices.tolist()}


@json_of.register
def _(value: Reduction) -> dict[str, Any]:  # type: ignore[type-arg]  # registered by its class
    return {"name": _snake(type(value).__name__), **_fields(value)}


@json_of.register
def _(value: Activation) -> dict[str, Any]:
    """Full values and statistics have a key of their own; all else is a list of what was asked and what came."""
    form = {name: json_of(getattr(value, name)) for name in ("site", "kind", "dtype", "shape")}
    full, statistics = (value.results.get(each) for each in (Full(), Statistics()))
    known = {"array": full, "scale": value.scale, "statistics": statistics}
    others = [
        {"reduction": json_of(reduction), "result": json_of(result)}
        for reduction, result in value.results.items()
        if not isinstance(reduction, Full | Statistics)
    ]
    form |= {name: json_of(each) for name, each in known.items() if each is not None}
    form |= {name: json_of(said) for name in ("edits", "is_gradient") if (said := getattr(value, name))}
    return form | ({"reductions": others} if others else {})


@json_of.register(np.dtype)
def _(value: np.dtype) -> str:
    return value.name


@json_of.register(np.ndarray)
def _(value: np.ndarray) -> dict[str, Any]:
    return {"dtype": value.dtype.name, "shape": list(value.shape), "data": json_of(_numbers(value))}


@json_of.register
def _(value: float) -> float | str:
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else f"{'-' if value < 0 else ''}Infinity"


@json_of.register
def _(value: np.generic) -> Any:  # any scalar
    return json_of(value.item())


@json_of.register
def _(value: complex) -> list[Any]:
    return [json_of(value.real), json_of(value.imag)]


@json_of.register
def _(value: dict) -> dict[str, Any]:  # type: ignore[type-arg]  # registered by its class
    return {str(key): json_of(each) for key, each in value.items()}


@json_of.register(list)
@json_of.register(tuple)
def _(value: list[object] | tuple[object, ...]) -> list[Any]:
    return [json_of(each) for each in value]


def _snake(name: str) -> str:
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name).lstrip("_")


def _fields(value: Any) -> dict[str, Any]:  # any dataclass
    return {field.name: json_of(getattr(value, field.name)) for field in fields(value)}


def _numbers(array: np.ndarray) -> Any:  # nested lists of any depth
    name = array.dtype.name
    if array.dtype.kind in "biufc" and not name.startswith("float8"):
        return array.tolist()
    # ml_dtypes' types: every value of theirs is one of these, too.
    return array.astype(np.int64 if name.startswith(("int", "uint")) else np.float64).tolist()
