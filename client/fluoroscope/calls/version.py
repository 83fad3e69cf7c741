"""The versions of a model, and how far each has come."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from fluoroscope.v1 import model_pb2


class ModelState(StrEnum):
    """How far a model has come."""

    LOADING = "LOADING"
    """The checkpoint is being read, or programs are being compiled."""

    READY = "READY"
    """Requests are answered."""

    FAILED = "FAILED"
    """It could not be loaded; `state_reason` says why."""

    UNLOADING = "UNLOADING"
    """It gets no new requests; those under way are being finished."""

    UNLOADED = "UNLOADED"
    """An operator has unloaded it."""

    UNKNOWN = "UNKNOWN"
    """A state that the server knows and this version of the client does not."""


_STATES: dict[int, ModelState] = {
    model_pb2.MODEL_STATE_LOADING: ModelState.LOADING,
    model_pb2.MODEL_STATE_READY: ModelState.READY,
    model_pb2.MODEL_STATE_FAILED: ModelState.FAILED,
    model_pb2.MODEL_STATE_UNLOADING: ModelState.UNLOADING,
    model_pb2.MODEL_STATE_UNLOADED: ModelState.UNLOADED,
}


def state_from_wire(number: int) -> ModelState:
    """Returns a state by its number on the wire."""
    return _STATES.get(number, ModelState.UNKNOWN)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelVersion:
    """One version of a model, as the server has it."""

    version: int
    """The checkpoint step."""

    state: ModelState
    """Whether it can answer."""

    state_reason: str
    """Why it cannot; of one that can, why a newer save of the same step was refused. Else empty."""

    labels: tuple[str, ...]
    """The labels that name it."""

    load_seconds: float
    """How long it took to load, compile and warm up; 0 if it is not loaded."""

    @classmethod
    def from_wire(cls, message: model_pb2.ModelVersion) -> ModelVersion:
        """Returns the version of a message."""
        return cls(
            version=message.version,
            state=state_from_wire(message.state),
            state_reason=message.state_reason,
            labels=tuple(message.labels),
            load_seconds=message.load_seconds,
        )
