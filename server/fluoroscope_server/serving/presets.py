"""Presets: inspections that a model's config names, compiled at load, so that the first to ask need not wait."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from fluoroscope_server.engine import Capture, Full, SiteKind, Statistics
from fluoroscope_server.errors import ConfigError, FluoroscopeError, nearest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fluoroscope_server.engine import Engine, Reduction
    from fluoroscope_server.model_config import Preset

T = TypeVar("T")

REDUCTIONS: dict[str, Reduction] = {"full": Full(), "statistics": Statistics()}
"""The reductions, by the word in a config that asks for them."""

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
        reductions=tuple(_known("reduction", word, REDUCTIONS) for word in preset.reduce),
    )


def _known(what: str, word: str, table: Mapping[str, T]) -> T:
    found = table.get(word.lower())
    if found is None:
        raise ConfigError(f"{word!r} is no {what}; nearest: {nearest(word, table)}")
    return found
