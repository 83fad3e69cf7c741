"""How far two versions of a model, or two inputs of one, are apart inside."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

from fluoroscope.calls.errors import CorruptStreamError
from fluoroscope.calls.kind import kind_from_wire
from fluoroscope.calls.progress import Program
from fluoroscope.v1.tensor_pb2 import DATA_TYPE_UNSPECIFIED
from fluoroscope.wire import WireError, dtype_from_wire

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import numpy as np

    from fluoroscope.calls.kind import SiteKind
    from fluoroscope.v1 import inspection_pb2


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteComparison:
    """How far the values of one site are apart: `a`, the first, from `b`, the second, which is what was expected.

    Elements that are not finite on both sides are counted, and left out of everything else. Computed in float32.
    """

    site: str
    """The path of the site."""

    kind: SiteKind
    """The kind of the site."""

    dtypes: tuple[np.dtype, np.dtype]
    """The type of each element, on the first and on the second side."""

    shape: tuple[int, ...]
    """The size of each axis of the value. -1 marks the batch axis."""

    count: int
    """How many pairs of elements there are."""

    max_abs_difference: float
    """The greatest `|a - b|`. NaN if no pair is finite, as in the next four."""

    max_relative_difference: float
    """The greatest `|a - b| / |b|`, the formula of `numpy.testing.assert_allclose`: 0 where `a == b`, even if both are
    0, and infinite where only `b` is 0."""

    mean_abs_difference: float
    """The mean of `|a - b|`."""

    rms_difference: float
    """The square root of the mean of `(a - b) ** 2`."""

    cosine_similarity: float
    """The cosine of the angle between both values as vectors. NaN, too, if one of them is all zeros."""

    identical_count: int
    """How many pairs have the same bits, NaN and infinite elements included."""

    divergent_count: int
    """How many pairs are further apart than `atol + rtol * |b|`, or differ in being NaN or infinite."""

    nan_mismatch_count: int
    """In how many pairs one element is NaN, and the other is not."""

    inf_mismatch_count: int
    """How many pairs without NaN have an infinite element, and are not the same infinity."""

    @property
    def identical(self) -> bool:
        """Returns whether both values have the same bits throughout."""
        return self.identical_count == self.count

    @property
    def diverges(self) -> bool:
        """Returns whether any element is further apart than the tolerance."""
        return self.divergent_count > 0

    @classmethod
    def from_wire(
        cls, message: inspection_pb2.SiteComparison, announced: inspection_pb2.ComparedSite
    ) -> SiteComparison:
        """Returns the comparison of a message and what the header says of its site.

        Raises:
            CorruptStreamError: The header gives it a type that there is not.
        """
        try:
            dtypes = dtype_from_wire(announced.left_data_type), dtype_from_wire(announced.right_data_type)
        except WireError as error:
            raise CorruptStreamError(f"the header announces {announced.path!r} wrongly: {error}") from None
        return cls(
            site=announced.path,
            kind=kind_from_wire(announced.kind),
            dtypes=dtypes,
            shape=tuple(announced.shape),
            count=message.count,
            max_abs_difference=message.max_abs_difference,
            max_relative_difference=message.max_relative_difference,
            mean_abs_difference=message.mean_abs_difference,
            rms_difference=message.rms_difference,
            cosine_similarity=message.cosine_similarity,
            identical_count=message.identical_count,
            divergent_count=message.divergent_count,
            nan_mismatch_count=message.nan_mismatch_count,
            inf_mismatch_count=message.inf_mismatch_count,
        )


class Comparison(Mapping[str, SiteComparison]):
    """The comparisons of one call by site, in execution order."""

    __slots__ = (
        "_found",
        "atol",
        "digests",
        "first_divergence",
        "model",
        "not_compared",
        "programs",
        "rows",
        "rtol",
        "stages",
        "versions",
    )

    def __init__(
        self,
        found: Iterable[SiteComparison],
        *,
        header: inspection_pb2.ComparisonHeader,
        trailer: inspection_pb2.ComparisonTrailer,
    ) -> None:
        self._found = {each.site: each for each in found}
        self.first_divergence: str | None = None
        """The first site, in execution order, at which an element is further apart than the tolerance; None if there is
        none among those that were compared."""
        if trailer.HasField("first_divergence"):
            self.first_divergence = header.sites[trailer.first_divergence].path
        self.not_compared = {site.path: site.not_comparable_reason for site in header.sites if left_out(site)}
        """Why sites that were asked for are not compared: one side lacks them, or computes them otherwise."""
        self.model = header.model
        """The model that answered."""
        self.versions = (header.left_version, header.right_version)
        """The versions that were compared."""
        self.digests = (header.left_digest, header.right_digest)
        """The digests of their checkpoints, as `Model.digest`: equal digests are equal weights."""
        self.rows = header.rows
        """How many examples the inputs of each side held."""
        self.rtol = header.rtol
        """The tolerance: `|a - b| <= atol + rtol * |b|`."""
        self.atol = header.atol
        """The tolerance: see `rtol`."""
        self.programs = (Program.from_wire(header.left_program), Program.from_wire(header.right_program))
        """The programs that computed each side."""
        self.stages = {stage.stage: stage.seconds for stage in trailer.stages}
        """How long each stage of the server's work took, in seconds."""

    def __getitem__(self, site: str) -> SiteComparison:
        try:
            return self._found[site]
        except KeyError:
            raise KeyError(f"no site {site!r} came; these did: {', '.join(islice(self, 10)) or 'none'}") from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._found)

    def __len__(self) -> int:
        return len(self._found)

    def __repr__(self) -> str:
        """Returns the comparison for people: what was compared, and where it first diverges."""
        first, second = self.versions
        where = "no site diverges" if self.first_divergence is None else f"{self.first_divergence!r} diverges first"
        return f"<Comparison of {self.model!r} versions {first} and {second}: {len(self)} sites, {where}>"


def left_out(site: inspection_pb2.ComparedSite) -> bool:
    """Returns whether a site of a header is not compared."""
    return bool(site.not_comparable_reason) or DATA_TYPE_UNSPECIFIED in {site.left_data_type, site.right_data_type}
