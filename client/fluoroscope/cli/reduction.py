"""Reductions as words of the command line: `histogram:bins=50,low=0`."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from fluoroscope.calls import (
    Correlation,
    Covariance,
    DeadUnits,
    FluoroscopeError,
    Full,
    Histogram,
    Mean,
    Norm,
    Quantiles,
    Statistics,
    TopK,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from fluoroscope.calls import (
        Reduction,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """How one reduction is written."""

    make: Callable[..., Reduction[Any]]
    """Makes it of its parameters, given by name."""

    parameters: Mapping[str, Callable[[list[str]], Any]]
    """What reads the values of each parameter. A value without a name belongs to the first."""

    help: str
    """What it is, in one line."""


def _integers(words: list[str]) -> tuple[int, ...]:
    return tuple(map(int, words))


def _numbers(words: list[str]) -> tuple[float, ...]:
    return tuple(map(float, words))


def _integer(words: list[str]) -> int:
    (word,) = words
    return int(word)


def _number(words: list[str]) -> float:
    (word,) = words
    return float(word)


def _quantiles(probabilities: tuple[float, ...] = ()) -> Quantiles:
    if not probabilities:
        raise ValueError("say which, such as in quantiles:0.05,0.5,0.95")
    return Quantiles(*probabilities)


def _topk(k: int | None = None) -> TopK:
    if k is None:
        raise ValueError("say how many, such as in topk:10")
    return TopK(k)


_AXES = {"axes": _integers}
_EXPECTED: dict[Callable[[list[str]], Any], str] = {
    _integers: "whole numbers",
    _numbers: "numbers",
    _integer: "one whole number",
    _number: "one number",
}

FORMS: dict[str, Form] = {
    "full": Form(make=Full, parameters={}, help="the value itself"),
    "statistics": Form(make=Statistics, parameters={}, help="mean, std, min, max, and counts of zeros, NaN, Inf"),
    "histogram": Form(
        make=Histogram,
        parameters={"bins": _integer, "low": _number, "high": _number},
        help="histogram:bins=50,low=0,high=1; without an end, it is found",
    ),
    "quantiles": Form(
        make=_quantiles,
        parameters={"probabilities": _numbers},
        help="quantiles:0.05,0.5,0.95",
    ),
    "norm": Form(
        make=Norm, parameters={**_AXES, "order": _number}, help="norm:axes=-1,order=2; order 1, 2 or inf, no axes: all"
    ),
    "mean": Form(make=Mean, parameters=_AXES, help="mean:axes=0,1; no axes: all"),
    "topk": Form(make=_topk, parameters={"k": _integer}, help="topk:k=10; the greatest along the last axis"),
    "dead": Form(make=DeadUnits, parameters={}, help="how often each unit is zero, and which always are"),
    "covariance": Form(make=Covariance, parameters={}, help="of all pairs of units, at most 4,096"),
    "correlation": Form(make=Correlation, parameters={}, help="of all pairs of units, at most 4,096"),
}
"""The reductions, by the word that asks for them."""

REDUCTIONS = "What to send of each value, --reduce:\n" + "\n".join(
    f"  {name:<12} {form.help}" for name, form in FORMS.items()
)
"""The reductions, for help texts."""


def read_reductions(words: tuple[str, ...]) -> dict[Reduction[Any], str]:
    """Returns reductions with the words that ask for them, each once.

    Raises:
        click.BadParameter: A word asks for none.
    """
    found: dict[Reduction[Any], str] = {}
    for word in words:
        found.setdefault(_read(word), word)
    return found


def _read(word: str) -> Reduction[Any]:
    name, colon, rest = word.partition(":")
    form = FORMS.get(name)
    if form is None:
        raise click.BadParameter(f"{word!r} is no reduction; choose from {', '.join(FORMS)}.")
    values = _values(word, rest.split(",") if colon else [], form)
    arguments = {key: _value(word, key, form.parameters[key], given) for key, given in values.items()}
    try:
        reduction = form.make(**arguments)
        reduction.message()
    except (FluoroscopeError, ValueError) as error:
        raise click.BadParameter(f"{word!r}: {error}.") from None
    if any(isinstance(each, float) and math.isnan(each) for each in arguments.values()):
        raise click.BadParameter(f"{word!r}: NaN is no number to ask with.")
    return reduction


def _values(word: str, items: list[str], form: Form) -> dict[str, list[str]]:
    """Returns the values of each parameter: one without a name belongs to that before it, at first to the first."""
    known = ", ".join(form.parameters) or "none"
    key = next(iter(form.parameters), None)
    values: dict[str, list[str]] = {}
    for item in items:
        left, equals, right = item.partition("=")
        key = left if equals else key
        if key is None or key not in form.parameters:
            raise click.BadParameter(f"{word!r}: {item!r} is no parameter; those that there are: {known}.")
        if equals and key in values:
            raise click.BadParameter(f"{word!r}: {key} is given twice.")
        values.setdefault(key, []).append(right if equals else item)
    return values


def _value(word: str, key: str, read: Callable[[list[str]], Any], given: list[str]) -> Any:
    try:
        return read(given)
    except ValueError:
        raise click.BadParameter(f"{word!r}: {key} is {', '.join(given)!r}; expected {_EXPECTED[read]}.") from None
