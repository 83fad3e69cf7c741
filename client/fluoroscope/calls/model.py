"""The models of a server, and the operations that describe them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from fluoroscope.calls.answer import read_answer
from fluoroscope.calls.argument import building
from fluoroscope.calls.exchange import Exchange
from fluoroscope.calls.selector import fill_version
from fluoroscope.calls.version import ModelVersion, state_from_wire
from fluoroscope.v1 import model_pb2
from fluoroscope.wire import DTYPES

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np

    from fluoroscope.calls.exchange import Steps
    from fluoroscope.calls.version import ModelState
    from fluoroscope.v1 import tensor_pb2

BATCH = -1
"""The size that marks the batch axis in a shape."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorSpec:
    """What an input must be, or what an output will be."""

    name: str
    """The key of the input or output."""

    dtype: np.dtype | None
    """The type of each element. None if it is one that the server knows and this version of the client does not."""

    shape: tuple[int, ...]
    """The size of each axis, outermost first. -1 marks the batch axis."""

    @classmethod
    def from_wire(cls, message: tensor_pb2.TensorSpec) -> TensorSpec:
        """Returns the spec of a message."""
        return cls(name=message.name, dtype=DTYPES.get(message.data_type), shape=tuple(message.shape))

    def __str__(self) -> str:
        """Returns the spec for people: `image: float32[batch, 28, 28, 1]`."""
        sizes = ", ".join("batch" if size == BATCH else str(size) for size in self.shape)
        return f"{self.name}: {self.dtype or 'unknown'}[{sizes}]"


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """One version of one network, as the server has it."""

    name: str
    """The name that calls use."""

    version: int
    """The checkpoint step. 0 if the checkpoint is not one of a series."""

    state: ModelState
    """Whether it can answer."""

    state_reason: str
    """Why it cannot. Empty when it can."""

    family: str
    """The recipe that made the network: `base_network`, `my_pkg.nets:build`."""

    inputs: tuple[TensorSpec, ...]
    """The inputs that each call must give."""

    outputs: tuple[TensorSpec, ...]
    """The outputs that a call may ask for."""

    buckets: tuple[int, ...]
    """The batch sizes that programs are compiled for, ascending. The last is the most rows of an inspection; a
    prediction may have sixteen times as many, unless the network mixes the rows of a batch."""

    parameter_count: int
    """How many numbers the weights are."""

    parameter_bytes: int
    """How many bytes the weights take on the device."""

    device: str
    """The device that runs it: `cpu`, `NVIDIA H100 80GB HBM3`."""

    site_count: int
    """How many sites can be captured."""

    load_seconds: float
    """How long it took to load, compile and warm up."""

    digest: str
    """The SHA-256 of all that the checkpoint holds, in hexadecimal: equal digests are equal weights."""

    sealed: bool
    """Whether the checkpoint was sealed on the server's side, and is what was sealed."""

    versions: tuple[ModelVersion, ...] = ()
    """All versions of the model that the server knows of, by number, those that were refused included."""

    labels: Mapping[str, int] = field(default_factory=dict)
    """The labels of the model, with the versions that they name."""

    @classmethod
    def from_wire(cls, message: model_pb2.Model) -> Model:
        """Returns the model of a message."""
        return cls(
            name=message.name,
            version=message.version,
            state=state_from_wire(message.state),
            state_reason=message.state_reason,
            family=message.family,
            inputs=tuple(map(TensorSpec.from_wire, message.inputs)),
            outputs=tuple(map(TensorSpec.from_wire, message.outputs)),
            buckets=tuple(message.buckets),
            parameter_count=message.parameter_count,
            parameter_bytes=message.parameter_bytes,
            device=message.device,
            site_count=message.site_count,
            load_seconds=message.load_seconds,
            digest=message.digest,
            sealed=message.sealed,
            versions=tuple(map(ModelVersion.from_wire, message.versions)),
            labels=dict(sorted(message.labels.items())),
        )


def get_model(
    name: str, *, version: int | None = None, label: str | None = None, timeout: float | None = None
) -> Steps[Model]:
    """Describes one model: its inputs, outputs, weights and state.

    Args:
        name: The name of the model.
        version: The checkpoint step to describe. None means the one that serves now.
        label: The label of the version, in place of its number.
        timeout: How many seconds the call may take. None means what the client was made with.

    Raises:
        NotFoundError: No such model, version or label; the message lists those there are.
        ServerUnavailableError: No version of it is loaded; the message says why.
    """
    with building():
        request = model_pb2.GetModelRequest(model=name)
    fill_version(request, version, label)
    answer = yield Exchange(
        method="/fluoroscope.v1.ModelService/GetModel",
        request=request.SerializeToString(),
        timeout=timeout,
        repeatable=True,
    )
    return Model.from_wire(read_answer(model_pb2.GetModelResponse, answer).model)


def list_models(*, timeout: float | None = None) -> Steps[list[Model]]:
    """Lists the models of the server, by name.

    Args:
        timeout: How many seconds each page may take. None means what the client was made with.
    """
    request = model_pb2.ListModelsRequest()
    found: list[Model] = []
    while True:
        answer = yield Exchange(
            method="/fluoroscope.v1.ModelService/ListModels",
            request=request.SerializeToString(),
            timeout=timeout,
            repeatable=True,
        )
        page = read_answer(model_pb2.ListModelsResponse, answer)
        found += map(Model.from_wire, page.models)
        if not page.next_page_token:
            return found
        request.page_token = page.next_page_token
