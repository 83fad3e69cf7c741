"""Version policy: which of a model's steps serve."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from fluoroscope_server.errors import ConfigError, SettingsError
from fluoroscope_server.settings import Swap, check_name

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

EXAMPLES = '"latest", {latest = 2}, [100, 200] or "all"'


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionPolicy:
    """What an operator wants served of a model."""

    latest: int | None = 1
    """How many of the newest steps; None means all."""

    only: tuple[int, ...] = ()
    """If there are some, these steps and no others, whatever `latest` says."""

    labels: Mapping[str, int] = field(default_factory=dict)
    """Names for versions. A version that has one is served, too."""

    swap: Swap | None = None
    """What to do when a new version does not fit beside the old one; None means what the server was told."""

    @classmethod
    def parse(cls, raw: Mapping[str, Any]) -> VersionPolicy:
        """Reads the keys `versions`, `labels` and `swap`, each of which may be missing; raises ConfigError."""
        latest, only = _versions(raw.get("versions", "latest"))
        return cls(latest=latest, only=only, labels=_labels(raw.get("labels", {})), swap=_swap(raw.get("swap")))

    def lacking(self, steps: Collection[int]) -> str:
        """Returns what is named that is none of the steps, in words; empty if all is there."""
        named = [*(("`versions`", each) for each in self.only), *((f"label {a!r}", b) for a, b in self.labels.items())]
        missing = [f"{who} names {version}" for who, version in named if version not in steps]
        if not missing or not steps:
            return ""
        return f"{', '.join(missing)}, and there is no such step: there are {', '.join(map(str, sorted(steps)))}"

    def choose(self, steps: Iterable[int]) -> list[int]:
        """Returns those of the steps that serve, newest first."""
        newest_first = sorted(steps, reverse=True)
        if self.only:
            return [step for step in newest_first if step in self.only]
        return newest_first[: self.latest]


def _versions(raw: object) -> tuple[int | None, tuple[int, ...]]:
    if raw == "all":
        return None, ()
    if raw == "latest":
        return 1, ()
    if isinstance(raw, dict) and raw.keys() == {"latest"} and _is_step(raw["latest"]) and raw["latest"]:
        return raw["latest"], ()
    if isinstance(raw, list) and raw and all(map(_is_step, raw)):
        return 1, tuple(sorted(set(raw)))
    raise ConfigError(f"`versions` must be {EXAMPLES}, not {raw!r}")


def _labels(raw: object) -> dict[str, int]:
    if not isinstance(raw, dict) or not all(map(_is_step, raw.values())):
        raise ConfigError(
            f"`labels` must be names with the steps that they mean, such as {{stable = 100}}, not {raw!r}"
        )
    try:
        for name in raw:
            check_name("label", name)
    except SettingsError as error:
        raise ConfigError(error.message) from error
    return dict(raw)


def _swap(raw: object) -> Swap | None:
    if raw is None:
        return None
    if isinstance(raw, str) and raw in list(Swap):
        return Swap(raw)
    raise ConfigError(f"`swap` must be one of {', '.join(Swap)}, not {raw!r}")


def _is_step(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
