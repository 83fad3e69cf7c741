"""How far a stream has come."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fluoroscope.v1 import inspection_pb2


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """The compiled program that answers."""

    compiled: bool
    """Whether this call had to wait for the compiler; False means that the program was held already."""

    compile_seconds: float
    """How long the compiler took for it, whoever waited."""

    bucket: int
    """The batch size that it was compiled for; the rows of the call are padded to it."""

    stages: int
    """How many stages bring results, one after the other; 1 means that it is fused."""

    flops: float
    """How many floating point operations it does, counted as XLA counts them."""

    flops_fraction: float
    """The same as a part of those of the whole network. More than 1 if outputs are asked for, too."""

    @classmethod
    def from_wire(cls, message: inspection_pb2.ProgramInfo) -> Program:
        """Returns the program of a message."""
        return cls(
            compiled=message.compiled,
            compile_seconds=message.compile_seconds,
            bucket=message.bucket,
            stages=message.stage_count,
            flops=message.flops,
            flops_fraction=message.flops_fraction,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """What has come of a stream, and what its header and its trailer say."""

    model: str
    """The model that answers."""

    version: int
    """The version that answers."""

    rows: int
    """How many examples the inputs held."""

    program: Program
    """The program that computes the values."""

    results: int
    """How many results have come whole."""

    total_results: int
    """How many results the stream will bring."""

    byte_count: int
    """How many bytes of tensor data have come."""

    total_bytes: int
    """How many bytes of tensor data the stream will bring."""

    stages: Mapping[str, float]
    """How long each stage of the server's work took, in seconds. Empty until the trailer has come."""

    @classmethod
    def begun(cls, header: inspection_pb2.StreamHeader) -> Progress:
        """Returns the progress of a stream of which only the header has come."""
        return cls(
            model=header.model,
            version=header.version,
            rows=header.rows,
            program=Program.from_wire(header.program),
            results=0,
            total_results=len(header.results),
            byte_count=0,
            total_bytes=sum(result.byte_size for result in header.results),
            stages={},
        )


def stages_of(trailer: inspection_pb2.StreamTrailer) -> dict[str, float]:
    """Returns the seconds of each stage of a trailer, by its name."""
    return {stage.stage: stage.seconds for stage in trailer.stages}
