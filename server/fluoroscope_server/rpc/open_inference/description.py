"""What the protocol tells of a model: its metadata and its configuration."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fluoroscope_server.keys import Scope, caller
from fluoroscope_server.rpc.open_inference.datatype import BY_DTYPE
from fluoroscope_server.rpc.open_inference.inference import open_inference_pb2 as messages

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fluoroscope_server.serving import Servable
    from fluoroscope_server.signature import TensorSpec


def metadata_of(servable: Servable, versions: Iterable[int]) -> messages.ModelMetadataResponse:
    """Returns the inputs and outputs of a model, and which versions of it there are."""
    signature = servable.engine.signature
    return messages.ModelMetadataResponse(
        name=servable.name,
        versions=[str(version) for version in versions],
        platform=_platform(servable),
        inputs=[_tensor(spec) for spec in signature.inputs],
        outputs=[_tensor(spec) for spec in signature.outputs],
    )


def config_of(servable: Servable) -> messages.ModelConfig:
    """Returns how a model is served."""
    engine = servable.engine
    joined = [bucket for bucket in engine.buckets if bucket <= engine.joined_rows]
    return messages.ModelConfig(
        name=servable.name,
        platform=_platform(servable),
        backend="fluoroscope",
        max_batch_size=engine.buckets[-1],
        input=[
            messages.ModelInput(name=spec.name, data_type=BY_DTYPE[spec.dtype].config, dims=spec.shape[1:])
            for spec in engine.signature.inputs
        ],
        output=[
            messages.ModelOutput(name=spec.name, data_type=BY_DTYPE[spec.dtype].config, dims=spec.shape[1:])
            for spec in engine.signature.outputs
        ],
        dynamic_batching=messages.ModelDynamicBatching(preferred_batch_size=joined) if joined else None,
        model_transaction_policy=messages.ModelTransactionPolicy(decoupled=False),
    )


def _platform(servable: Servable) -> str:
    """Returns the family of a model, for those who may look inside."""
    return servable.family if Scope.INSPECT in caller().scopes else ""


def _tensor(spec: TensorSpec) -> messages.ModelMetadataResponse.TensorMetadata:
    return messages.ModelMetadataResponse.TensorMetadata(
        name=spec.name, datatype=BY_DTYPE[spec.dtype].name, shape=spec.shape
    )
