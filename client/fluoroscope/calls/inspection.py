"""All that one inspection brought."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from typing import TYPE_CHECKING

from fluoroscope.calls.activation import Activation
from fluoroscope.calls.progress import Program, stages_of
from fluoroscope.calls.reduction import Full

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import numpy as np

    from fluoroscope.v1.inspection_pb2 import StreamHeader, StreamTrailer


class Inspection(Mapping[str, Activation]):
    """The activations of one call by site, in execution order; every checksum is confirmed."""

    __slots__ = ("_activations", "digest", "model", "outputs", "program", "rows", "stages", "version")

    def __init__(self, activations: Iterable[Activation], *, header: StreamHeader, trailer: StreamTrailer) -> None:
        self._activations: dict[str, Activation] = {}
        self.outputs: dict[str, np.ndarray] = {}
        """The outputs of the network that were asked for, by name."""
        for activation in activations:
            self._add(activation)
        self.model = header.model
        """The model that answered."""
        self.version = header.version
        """The version that answered."""
        self.digest = header.digest
        """The digest of the checkpoint that answered, as `Model.digest`; empty if the server says none."""
        self.rows = header.rows
        """How many examples the inputs held."""
        self.program = Program.from_wire(header.program)
        """The program that computed them."""
        self.stages = stages_of(trailer)
        """How long each stage of the server's work took, in seconds."""

    def _add(self, activation: Activation) -> None:
        if activation.is_output:
            if Full() in activation:
                self.outputs[activation.site] = activation.array
            return
        known = self._activations.get(activation.site)
        self._activations[activation.site] = activation if known is None else known.merged(activation)

    def __getitem__(self, site: str) -> Activation:
        try:
            return self._activations[site]
        except KeyError:
            raise KeyError(f"no site {site!r} came; these did: {', '.join(islice(self, 10)) or 'none'}") from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._activations)

    def __len__(self) -> int:
        return len(self._activations)

    def __repr__(self) -> str:
        """Returns the inspection for people: which model, and which sites."""
        return f"<Inspection of {self.model!r} version {self.version}: {', '.join(self) or 'no sites'}>"
