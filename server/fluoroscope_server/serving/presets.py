"""Presets: inspections that a model's config names, compiled at load, so that the first to ask need not wait."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from fluoroscope_server.engine import (
    Capture,
    Correlation,
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
from fluoroscope_server.errors import ConfigError, FluoroscopeError, nearest

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from fluoroscope_server.engine import Engine, Reduction
    from fluoroscope_server.model_config import Preset

T = TypeVar("T")

Options = dict[str, list[str]]
"""What stands behind a word, by name; the values of the word itself under the empty name."""


def _axes(options: Options) -> tuple[int, ...]:
    return tuple(int(axis) for axis in options.pop("axes", ()))


def _one(options: Options, name: str, default: str) -> str:
    (value,) = options.pop(name, [default])
    return value


REDUCTIONS: dict[str, Callable[[Options], Reduction]] = {
    "full": lambda _: Full(),
    "statistics": lambda _: Statistics(),
    "histogram": lambda options: Histogram(bins=int(_one(options, "bins", "50"))),
    "quantiles": lambda options: Quantiles(probabilities=tuple(float(each) for each in options.pop(""))),
    "norm": lambda options: Norm(axes=_axes(options), order=float(_one(options, "order", "2"))),
    "mean": lambda options: Mean(axes=_axes(options)),
    "top_k": lambda options: TopK(k=int(_one(options, "k", "10"))),
    "dead_units": lambda _: DeadUnits(),
    "covariance": lambda _: Covariance(),
    "correlation": lambda _: Correlation(),
}
"""By the word in a config that asks for it, what makes a reduction of its options, and takes those that it knows."""

_OTHER_WORDS = {"topk": "top_k", "dead": "dead_units"}
"""What the client's command line calls some of them."""

KINDS: dict[str, SiteKind] = {kind.name.lower(): kind for kind in SiteKind}
"""The kinds of site, by the word in a config that asks for them."""


def compile_presets(engine: Engine, presets: Mapping[str, Preset]) -> None:
    """Compiles each preset for each of its buckets, and holds the programs for good.

    Raises:
        ConfigError: a preset asks for what the network does not have; the message names it.
    """
    for name, preset in presets.items():
        try:
            capture = _capture(preset)
            for bucket in preset.buckets:
                engine.pin(engine.inspect([capture], (), rows=bucket).plan)
        except FluoroscopeError as error:
            raise ConfigError(f"preset {name!r}: {error.message}") from error


def _capture(preset: Preset) -> Capture:
    return Capture(
        sites=preset.sites,
        kinds=tuple(_known("kind of site", word, KINDS) for word in preset.kinds),
        reductions=tuple(reduction_of(word) for word in preset.reduce),
    )


def reduction_of(text: str) -> Reduction:
    """Returns the reduction of a word such as `histogram:bins=50`; numbers that cause no compile are left out."""
    word, _, rest = text.partition(":")
    make = _known("reduction", _OTHER_WORDS.get(word.lower(), word), REDUCTIONS)
    try:
        options = _options(rest)
        reduction = make(options)
    except (KeyError, ValueError) as error:
        raise ConfigError(
            f"{text!r} is no reduction: expected such as 'histogram:bins=50', 'quantiles:0.05,0.5', "
            "'norm:axes=-1,order=2', 'topk:k=10'"
        ) from error
    for unknown in options.keys() - {"low", "high"}:
        raise ConfigError(f"{text!r} has an option {unknown!r} that {word} does not know")
    return reduction


def _options(text: str) -> Options:
    """Returns the options behind a word: `axes=0,1,order=2`."""
    options: Options = {}
    name = ""
    for piece in filter(None, text.split(",")):
        before, equals, value = piece.partition("=")
        if equals:
            name = before
        options.setdefault(name, []).append(value if equals else piece)
    return options


def _known(what: str, word: str, table: Mapping[str, T]) -> T:
    found = table.get(word.lower())
    if found is None:
        raise ConfigError(f"{word!r} is no {what}; nearest: {nearest(word, table)}")
    return found
