"""The config of a builtin family: each value is read by its key, and checked as it is read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeVar

from fluoroscope_server.errors import ConfigError, nearest

if TYPE_CHECKING:
    from collections.abc import Mapping

T = TypeVar("T")

REQUIRED: Final = object()
"""Stands for the default of a key that has none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FamilyConfig:
    """What an operator says about a network of a builtin family.

    Raises:
        ConfigError: when it is made, if it has a key that the family does not know.
    """

    family: str
    """The name of the family, for messages."""

    given: Mapping[str, Any]
    """What the operator says."""

    defaults: Mapping[str, Any]
    """All keys that the family knows, each with the value that it has unless said; `REQUIRED` if it must be said."""

    def __post_init__(self) -> None:
        """Refuses keys that are unknown."""
        for key in self.given:
            if key not in self.defaults:
                raise ConfigError(
                    f"{self.family} has no {key!r}; nearest: {nearest(key, self.defaults)}; "
                    f"known: {', '.join(self.defaults)}"
                )

    def size(self, key: str) -> int:
        """Returns a positive whole number; raises ConfigError."""
        value = self._value(key)
        if not _is_size(value):
            kind = "whole number" if isinstance(value, float) else "number"
            raise ConfigError(f"{self.family}'s {key} must be a positive {kind}, not {value!r}")
        return int(value)

    def sizes(self, key: str) -> tuple[int, ...]:
        """Returns positive whole numbers, of which there may be none; raises ConfigError."""
        value = self._value(key)
        if not isinstance(value, list | tuple) or not all(_is_size(size) for size in value):
            raise ConfigError(f"{self.family}'s {key} must be a list of positive sizes, not {value!r}")
        return tuple(value)

    def choice(self, key: str, choices: Mapping[str, T]) -> T:
        """Returns what a name stands for; raises ConfigError with the names that are known."""
        name = self._value(key)
        if not isinstance(name, str) or name not in choices:
            raise ConfigError(
                f"{self.family} has no {key} {name!r}; nearest: {nearest(str(name), choices)}; "
                f"known: {', '.join(choices)}"
            )
        return choices[name]

    def _value(self, key: str) -> Any:
        value = self.given.get(key, self.defaults[key])
        if value is REQUIRED:
            said = ", ".join(self.given) or "nothing"
            raise ConfigError(
                f"{self.family}'s config must say {key}, for which nothing can be assumed; it says {said}"
            )
        return value


def _is_size(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0
