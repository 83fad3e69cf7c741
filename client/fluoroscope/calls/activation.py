"""The value at one site, as far as it was asked for."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeVar

from fluoroscope.calls.errors import CorruptStreamError
from fluoroscope.calls.kind import kind_from_wire
from fluoroscope.calls.parts import Parts
from fluoroscope.calls.reduction import (
    Correlation,
    Covariance,
    DeadUnits,
    Full,
    Histogram,
    Mean,
    Norm,
    Quantiles,
    Statistics,
    TopK,
    reduction_from_wire,
)
from fluoroscope.wire import WireError, dtype_from_wire

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import numpy as np

    from fluoroscope.calls.covariance import SiteCorrelation, SiteCovariance
    from fluoroscope.calls.histogram import SiteHistogram
    from fluoroscope.calls.kind import SiteKind
    from fluoroscope.calls.quantiles import SiteQuantiles
    from fluoroscope.calls.reduction import (
        Reduction,
    )
    from fluoroscope.calls.statistics import SiteStatistics
    from fluoroscope.calls.units import SiteDeadUnits, TopElements
    from fluoroscope.wire import StreamResult

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Activation:
    """What came back for one site, or for one output of the network.

    What was asked for once has a property: `activation.histogram`. It raises LookupError where nothing of the kind was
    asked for, and ValueError where there are several: ask for these by the question, `activation[Histogram(bins=50)]`.
    `Full() in activation` says whether the value came; to iterate over an activation gives the questions.
    """

    site: str
    """The path of the site; the name of the output."""

    kind: SiteKind | None
    """The kind of the site. None for an output of the network."""

    dtype: np.dtype
    """The type of each element of the value in the network."""

    shape: tuple[int, ...]
    """The size of each axis of the value, after any slice, whether it was sent or only described."""

    results: Mapping[Reduction[Any], Any] = field(default_factory=dict)
    """All that came back, by what was asked for."""

    scale: np.float32 | None = None
    """What to multiply `array` with if it was asked for as int8. None if it was not."""

    edits: tuple[int, ...] = ()
    """Which of the edits that were asked for changed the value at this very site, counting from 0."""

    is_gradient: bool = False
    """Whether this is not of the value, but of the gradient with respect to it."""

    @property
    def is_output(self) -> bool:
        """Returns whether this is an output of the network rather than a site."""
        return self.kind is None

    @property
    def array(self) -> np.ndarray:
        """The value, in the dtype that it has in the network, or that was asked for."""
        return self._only(Full)

    @property
    def statistics(self) -> SiteStatistics:
        """The numbers that describe the value."""
        return self._only(Statistics)

    @property
    def histogram(self) -> SiteHistogram:
        """How its elements are spread."""
        return self._only(Histogram)

    @property
    def quantiles(self) -> SiteQuantiles:
        """The quantiles of its elements."""
        return self._only(Quantiles)

    @property
    def norm(self) -> np.ndarray:
        """Its norm along axes, float32."""
        return self._only(Norm)

    @property
    def mean(self) -> np.ndarray:
        """Its mean along axes, float32."""
        return self._only(Mean)

    @property
    def top_k(self) -> TopElements:
        """Its greatest elements along the last axis."""
        return self._only(TopK)

    @property
    def dead_units(self) -> SiteDeadUnits:
        """Which of its units are dead."""
        return self._only(DeadUnits)

    @property
    def covariance(self) -> SiteCovariance:
        """The covariance of its units."""
        return self._only(Covariance)

    @property
    def correlation(self) -> SiteCorrelation:
        """The correlation of its units."""
        return self._only(Correlation)

    def __getitem__(self, reduction: Reduction[T]) -> T:
        """Returns what came back for a reduction, given as it was asked for; raises KeyError if it was not."""
        try:
            found: T = self.results[reduction]
        except KeyError:
            raise KeyError(f"{reduction!r} of {self.site!r} was not asked for, but {self._known}") from None
        return found

    def __contains__(self, reduction: object) -> bool:
        return reduction in self.results

    def __iter__(self) -> Iterator[Reduction[Any]]:
        return iter(self.results)

    @classmethod
    def from_wire(cls, results: Sequence[StreamResult]) -> Activation:
        """Returns the activation of all results of one reduction of one site, or of one output.

        Raises:
            CorruptStreamError: They are not what was asked for.
        """
        parts = Parts(results)
        header = parts.header
        reduction = reduction_from_wire(header.reduction)
        output = header.WhichOneof("source") == "output"
        try:
            dtype = dtype_from_wire(header.value_data_type)
        except WireError as error:
            raise CorruptStreamError(f"the header announces a value wrongly: {error}") from None
        return cls(
            site=header.output if output else header.site,
            kind=None if output else kind_from_wire(header.kind),
            dtype=dtype,
            shape=parts.shape,
            results={reduction: reduction.read(parts)},
            scale=parts.sent()[1] if isinstance(reduction, Full) else None,
            edits=tuple(header.edits),
            is_gradient=header.is_gradient,
        )

    def merged(self, other: Activation) -> Activation:
        """Returns this activation with what other reductions of the same site add."""
        scale = self.scale if other.scale is None else other.scale
        return replace(self, results={**self.results, **other.results}, scale=scale)

    def _only(self, kind: type[Reduction[T]]) -> T:
        """Returns what came back for the only reduction of a kind.

        Raises:
            LookupError: There is none.
            ValueError: There are several.
        """
        found = [reduction for reduction in self.results if isinstance(reduction, kind)]
        if len(found) > 1:
            choices = ", ".join(f"activation[{reduction!r}]" for reduction in found)
            raise ValueError(f"{len(found)} of a kind were asked for of {self.site!r}; say which: {choices}")
        if not found:
            name = kind.__name__
            raise LookupError(
                f"no {name} of {self.site!r} was asked for, but {self._known}: ask for it with reduce={name}(...), "
                "or a list of several"
            )
        result: T = self.results[found[0]]
        return result

    @property
    def _known(self) -> str:
        return ", ".join(map(repr, self.results)) or "nothing"
