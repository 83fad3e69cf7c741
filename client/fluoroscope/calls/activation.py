"""The value at one site, as far as it was asked for."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from fluoroscope.calls.errors import CorruptStreamError
from fluoroscope.calls.kind import kind_from_wire
from fluoroscope.calls.statistics import SiteStatistics

if TYPE_CHECKING:
    import numpy as np

    from fluoroscope.calls.kind import SiteKind
    from fluoroscope.wire import StreamResult


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Activation:
    """What came back for one site, or for one output of the network."""

    site: str
    """The path of the site; the name of the output."""

    kind: SiteKind | None
    """The kind of the site. None for an output of the network."""

    shape: tuple[int, ...]
    """The size of each axis of the value, after any slice, whether it was sent or only described."""

    array: np.ndarray | None = None
    """The value, in the dtype that it has in the network. None if it was not asked for."""

    statistics: SiteStatistics | None = None
    """The numbers that describe it. None if they were not asked for."""

    @property
    def is_output(self) -> bool:
        """Returns whether this is an output of the network rather than a site."""
        return self.kind is None

    @classmethod
    def from_wire(cls, result: StreamResult) -> Activation:
        """Returns the activation of one result of a stream.

        Raises:
            CorruptStreamError: The result is a summary that nobody asked for.
        """
        header = result.header
        output = header.WhichOneof("source") == "output"
        activation = cls(
            site=header.output if output else header.site,
            kind=None if output else kind_from_wire(header.kind),
            shape=tuple(header.shape),
            array=result.array,
        )
        if result.summary is None:
            return activation
        if result.summary.WhichOneof("summary") != "statistics":
            raise CorruptStreamError(f"the summary of {activation.site!r} has no statistics; they were asked for")
        return replace(activation, statistics=SiteStatistics.from_wire(result.summary.statistics))

    def merged(self, other: Activation) -> Activation:
        """Returns this activation with what another result of the same site adds."""
        return replace(
            self,
            array=self.array if other.array is None else other.array,
            statistics=self.statistics if other.statistics is None else other.statistics,
        )
