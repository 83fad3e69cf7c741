"""A model: its versions, loaded and refused, and the labels that name them."""

from __future__ import annotations

import asyncio
import enum
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

from fluoroscope_server.errors import NotFoundError, UnavailableError, WrongStateError, quoted
from fluoroscope_server.keys import Scope, caller
from fluoroscope_server.serving.users import Users
from fluoroscope_server.serving.version_policy import VersionPolicy

if TYPE_CHECKING:
    from fluoroscope_server.checkpoints import Stamp
    from fluoroscope_server.errors import FluoroscopeError
    from fluoroscope_server.serving.refusal import Refusal
    from fluoroscope_server.serving.servable import Servable
    from fluoroscope_server.settings import ModelSource

Selector: TypeAlias = int | str | None
"""Which version of a model: its number, a label, or None for the one that serves."""


class VersionState(enum.Enum):
    """How far a version has come."""

    LOADING = enum.auto()
    """Its checkpoint is being read, or its programs are being compiled."""

    READY = enum.auto()
    """It answers."""

    FAILED = enum.auto()
    """It was refused."""

    UNLOADING = enum.auto()
    """It gets no new requests; those under way are being finished."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionStatus:
    """One version, for people."""

    version: int
    """Its number."""

    state: VersionState
    """How far it has come."""

    reason: str = ""
    """Why it was refused, or a newer save of it."""

    labels: tuple[str, ...] = ()
    """The labels that name it."""

    load_seconds: float = 0.0
    """How long it took to load; 0 if it is not."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Loaded:
    """A version that answers."""

    servable: Servable
    """What answers."""

    saved: Stamp | None = None
    """The stamp of the save that it was loaded from; None if nobody looked."""

    users: Users = field(default_factory=Users)
    """Who is being answered."""


class ModelEntry:
    """One model of the repository. Belongs to the event loop."""

    def __init__(
        self, name: str, source: ModelSource | None = None, *, watched: bool = False, discovered: bool = False
    ) -> None:
        """Begins with no version.

        Args:
            name: what requests call it.
            source: where its steps are; None if whoever adds its versions knows.
            watched: whether its steps are followed while the server runs.
            discovered: whether it is there because its folder is in the repository, and goes with it.
        """
        self.name = name
        self.source = source
        self.watched = watched
        self.discovered = discovered
        self.policy = VersionPolicy()
        self.loaded: dict[int, Loaded] = {}
        """The versions that answer."""
        self.loading: int | None = None
        """The version that is being loaded."""
        self.leaving: list[Loaded] = []
        """What gets no new requests, and is still being used."""
        self.refused: dict[int, Refusal] = {}
        """Why versions do not serve, or why newer saves of them do not."""
        self.labels: dict[str, int] = {}
        """Names for versions that are loaded."""
        self.trouble = ""
        """Why its folder cannot be looked at, for clients who may look inside; empty if it can."""
        self.lacking = ""
        """Which steps the policy names that are not there, in words."""
        self.asked: set[int] = set()
        """Versions that an operator has loaded by hand: they stay, whatever the policy says."""
        self.dismissed: set[int] = set()
        """Versions that an operator has unloaded by hand: they stay away."""
        self.stopped = False
        """Whether an operator has unloaded the whole model: then only what is `asked` for serves."""
        self.removed = False
        """Whether its folder is gone."""
        self.lock = asyncio.Lock()
        """Held by whoever brings it from one state to another."""
        self._labels_by_hand: set[str] = set()

    @property
    def serving(self) -> int | None:
        """The version that answers who names none: the newest; None if there is none."""
        return max(self.loaded, default=None)

    @property
    def waiting(self) -> int:
        """How many predictions wait for the device. Safe on any thread."""
        return sum(each.servable.batcher.waiting for each in list(self.loaded.values()))

    def where(self) -> ModelSource:
        """Returns where its steps are; raises WrongStateError if nobody knows."""
        if self.source is None:
            raise WrongStateError(f"model {self.name!r} has no folder to load from", field="model", reason="NO_FOLDER")
        return self.source

    def select(self, selector: Selector) -> Loaded:
        """Returns the version that a request means.

        Raises:
            NotFoundError: there is no such version or label.
            UnavailableError: no version answers now, or the one that is meant is being loaded.
        """
        serving = self.serving
        if serving is None:
            raise self._unavailable()
        if selector is None:
            return self.loaded[serving]
        version = self._labelled(selector) if isinstance(selector, str) else selector
        loaded = self.loaded.get(version)
        if loaded is None:
            raise self._missing(version)
        return loaded

    def wants(self, version: int) -> bool:
        """Returns whether nobody has said that this version shall not serve."""
        if self.stopped:
            return version in self.asked
        return version not in self.dismissed

    def settle_labels(self) -> None:
        """Lets the labels of the policy point where it says, as far as those versions are loaded."""
        for label in [each for each in self.labels if each not in self._labels_by_hand]:
            if label not in self.policy.labels:
                del self.labels[label]
        for label, version in self.policy.labels.items():
            if label not in self._labels_by_hand and version in self.loaded:
                self.labels[label] = version

    def set_label(self, label: str, version: int | None) -> None:
        """Lets a label point to a version that is loaded, or with None to nothing; the policy leaves it alone then."""
        self._labels_by_hand.add(label)
        if version is None:
            self.labels.pop(label, None)
        else:
            self.labels[label] = version

    def labels_of(self, version: int) -> tuple[str, ...]:
        """Returns the labels of a version, sorted."""
        return tuple(sorted(label for label, each in self.labels.items() if each == version))

    def statuses(self) -> list[VersionStatus]:
        """Returns all versions that are known, by number."""
        states = dict.fromkeys(self.refused, VersionState.FAILED)
        states |= {each.servable.version: VersionState.UNLOADING for each in self.leaving}
        states |= dict.fromkeys(self.loaded, VersionState.READY)
        if self.loading is not None and self.loading not in self.loaded:
            states[self.loading] = VersionState.LOADING
        return [self._status(version, states[version]) for version in sorted(states)]

    def _status(self, version: int, state: VersionState) -> VersionStatus:
        refusal, loaded = self.refused.get(version), self.loaded.get(version)
        reason = refusal.reason if refusal else ""
        return VersionStatus(
            version=version,
            state=state,
            reason=f"a newer save of it was refused: {reason}" if refusal and loaded else reason,
            labels=self.labels_of(version),
            load_seconds=loaded.servable.load_seconds if loaded else 0.0,
        )

    def _labelled(self, label: str) -> int:
        if label not in self.labels:
            there = ", ".join(f"{name!r} (version {self.labels[name]})" for name in sorted(self.labels))
            raise NotFoundError(
                f"model {self.name!r} has no label {quoted(label)}; it has {there or 'none'}",
                field="label",
                reason="LABEL_NOT_FOUND",
            )
        return self.labels[label]

    def _missing(self, version: int) -> FluoroscopeError:
        if version == self.loading:
            return UnavailableError(
                f"version {version} of model {self.name!r} is still being loaded; try again soon",
                reason="MODEL_LOADING",
            )
        refusal = self.refused.get(version)
        why = f" (it was refused: {refusal.told})" if refusal else ""
        loaded = ", ".join(map(str, sorted(self.loaded)))
        return NotFoundError(
            f"model {self.name!r} has no version {version}{why}; it has {loaded} loaded, and LoadModel "
            "(`fluoroscope load`) brings others",
            field="version",
            reason="VERSION_NOT_FOUND",
        )

    def _unavailable(self) -> UnavailableError:
        reason, why = self.idleness
        return UnavailableError(f"model {self.name!r} {why}", reason=reason)

    @property
    def told_trouble(self) -> str:
        """What the caller is told of the trouble, as the rest of a sentence about the model."""
        why = self.trouble if Scope.INSPECT in caller().scopes else "the server's log says why"
        return f"cannot be looked at: {why}"

    @property
    def idleness(self) -> tuple[str, str]:
        """Why no version answers: a word for programs, and the rest of a sentence about the model, for the caller."""
        if self.loading is not None:
            return "MODEL_LOADING", "is still being loaded; try again soon"
        if self.stopped or self.dismissed:
            return "MODEL_UNLOADED", "was unloaded by an operator; LoadModel (`fluoroscope load`) brings it back"
        if self.refused:
            newest = max(self.refused)
            return "MODEL_FAILED", f"has no version that serves; {newest} was refused: {self.refused[newest].told}"
        if self.trouble:
            return "MODEL_FAILED", self.told_trouble
        if self.lacking:
            return "MODEL_FAILED", f"has nothing to serve: in its model.toml {self.lacking}"
        return "MODEL_LOADING", "is still being loaded; try again soon"
