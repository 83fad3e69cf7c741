"""Values as JSON, for programs."""

from __future__ import annotations

import json
import math
from dataclasses import fields, is_dataclass
from functools import singledispatch
from typing import Any

import click
import numpy as np

from fluoroscope.calls import Activation, SiteStatistics


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
def _(value: Activation) -> dict[str, Any]:
    return {name: each for name, each in _fields(value).items() if each is not None}


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
def _(value: complex) -> list[Any]:
    return [json_of(value.real), json_of(value.imag)]


@json_of.register
def _(value: dict) -> dict[str, Any]:  # type: ignore[type-arg]  # registered by its class
    return {str(key): json_of(each) for key, each in value.items()}


@json_of.register(list)
@json_of.register(tuple)
def _(value: list[object] | tuple[object, ...]) -> list[Any]:
    return [json_of(each) for each in value]


def _fields(value: Any) -> dict[str, Any]:  # any dataclass
    return {field.name: json_of(getattr(value, field.name)) for field in fields(value)}


def _numbers(array: np.ndarray) -> Any:  # nested lists of any depth
    name = array.dtype.name
    if array.dtype.kind in "biufc" and not name.startswith("float8"):
        return array.tolist()
    # ml_dtypes' types: every value of theirs is one of these, too.
    return array.astype(np.int64 if name.startswith(("int", "uint")) else np.float64).tolist()
