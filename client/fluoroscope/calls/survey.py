"""What reductions come to over a data set that is larger than one request."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from fluoroscope.calls.activation import Activation
from fluoroscope.calls.addition import Rows, addable, rows_axis
from fluoroscope.calls.argument import whole
from fluoroscope.calls.errors import InvalidRequestError, LimitExceededError, WrongStateError
from fluoroscope.calls.passes import passes_of
from fluoroscope.calls.reduction import reductions_of
from fluoroscope.calls.site import Site
from fluoroscope.calls.slice import slices_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from fluoroscope.calls.inspection import Inspection
    from fluoroscope.calls.passes import Passes
    from fluoroscope.calls.reduction import Reduction
    from fluoroscope.calls.slice import Slice

MOST_BYTES = 1 << 30
"""How many bytes a survey may hold of what is one for each example, unless more is allowed."""


class Survey(Mapping[str, Activation]):
    """What the server would give for a data set if it were one big batch, put together from many small ones.

    Some reductions need several passes over the data: a histogram without both ends two, quantiles three or more, all
    others one. It says what to ask of each batch, and takes the answers:

        survey = Survey(client.sites("digits", "relu:*"), reduce=[DeadUnits(), Histogram(bins=20)])
        version = client.model("digits").version
        for question in survey.passes():
            for part in parts:
                survey.add(client.inspect("digits", {"image": part}, version=version, **question))
        survey["relu:0"].dead_units.indices

    Counts, ends, histograms and quantiles are exact, of the float32 that the device computes. Means, deviations, norms,
    covariances and correlations are put together in float64 from what the device computed in float32 of each batch.

    What is one for each example, such as `Full()`, `TopK(5)` or `Mean(axes=-1)`, is put one behind the other, and held
    in memory until the end: as much as `max_bytes` allows.
    """

    def __init__(
        self,
        sites: Iterable[Site],
        *,
        reduce: Reduction[Any] | Sequence[Reduction[Any]],
        slices: Slice | Sequence[Slice] = (),
        max_bytes: int | None = None,
        expected_rows: int | None = None,
    ) -> None:
        """Takes which sites, what to do to each, and how to cut each before; as for `inspect`.

        Args:
            sites: The sites, as `Client.sites` lists them.
            reduce: What to compute of each.
            slices: How to cut each value first.
            max_bytes: The most bytes to hold of what is one for each example. None means 1 GiB.
            expected_rows: How many examples there will be, if that is known: then the first batch tells whether they
                are too many.

        Raises:
            InvalidRequestError: There are no sites, one is of a type that cannot be sent, examples would be units, or a
                slice cuts the batch axis.
        """
        self._max_bytes = MOST_BYTES if max_bytes is None else whole(max_bytes, "max_bytes")
        self._expected_rows = expected_rows
        self.rows = 0
        """How many examples the batches of a pass held."""
        self._in_a_pass = False
        self._answered_by: tuple[str, int, str] | None = None
        reductions = reductions_of(reduce)
        self._slices = slices_of(slices)
        self._sites = {site.path: _SiteSurvey(site, reductions) for site in map(_checked, sites)}
        if not self._sites:
            raise InvalidRequestError("no sites are given to survey", field="sites")
        for each in self._sites.values():
            each.check(self._slices)

    def passes(self) -> Iterator[dict[str, Any]]:
        """Yields for each pass over the data what to ask `inspect` beside model and inputs, until all is known.

        Raises:
            ValueError: No batch was added in a pass.
        """
        while questions := {path: asked for path, site in self._sites.items() if (asked := site.asked)}:
            self.rows = 0
            self._in_a_pass = True
            yield {"sites": questions, "slices": self._slices}
            self._in_a_pass = False
            if not self.rows:
                raise ValueError("no example was added in this pass: give each batch's inspection to `add`")
            for site in self._sites.values():
                site.turn(self.rows)

    def add(self, inspection: Inspection) -> None:
        """Takes what a batch of the data brought in this pass.

        Raises:
            LimitExceededError: What is one for each example has more bytes than may be held.
            WrongStateError: Another version answered than before.
            KeyError: A site or a reduction that was asked for is not in it. Nothing was taken then.
            ValueError: There is no pass now.
        """
        if not self._in_a_pass:
            raise ValueError("there is no pass now: add each batch within `for question in survey.passes()`")
        self._check_version(inspection)
        found = [
            (site, inspection[path], site.parts(inspection[path], rows=inspection.rows))
            for path, site in self._sites.items()
            if site.asked
        ]
        for site, activation, parts in found:
            site.take(activation, parts)
        self.rows += inspection.rows
        self._check_bytes()

    def _check_version(self, inspection: Inspection) -> None:
        """Refuses numbers of two networks, as those before and after a swap are."""
        by = inspection.model, inspection.version, inspection.digest
        if self._answered_by is not None and self._answered_by != by:
            raise WrongStateError(
                f"this batch was answered by {_named(*by)}, and those before by {_named(*self._answered_by)}: a survey "
                "is of one; ask all batches of one with version=, as client.model(name).version tells it",
                reason="VERSION_CHANGED",
                field="version",
            )
        self._answered_by = by

    def _check_bytes(self) -> None:
        rows = max(self.rows, self._expected_rows or 0)
        size = sum(site.held_bytes for site in self._sites.values()) * rows // max(self.rows, 1)
        if size > self._max_bytes:
            raise LimitExceededError(
                f"the values of {rows:,} examples have {size:,} bytes, and to hold them the limit is "
                f"{self._max_bytes:,}: allow more with max_bytes, ask for fewer sites or a slice of each, or for what "
                "is one for all examples",
                reason="SURVEY_TOO_LARGE",
                field="max_bytes",
            )

    def __getitem__(self, path: str) -> Activation:
        """Returns what came back for a site; as long as passes are left, without what they will bring."""
        return self._sites[path].activation

    def __iter__(self) -> Iterator[str]:
        return iter(self._sites)

    def __len__(self) -> int:
        return len(self._sites)


def _checked(site: object) -> Site:
    """Returns a site; raises InvalidRequestError if it is none."""
    if not isinstance(site, Site):
        raise InvalidRequestError(
            f"sites hold {site!r}; expected what `client.sites(model, pattern)` lists", field="sites"
        )
    return site


def _named(model: str, version: int, digest: str) -> str:
    return f"version {version} of {model!r}" + (f" ({digest[:12]})" if digest else "")


class _SiteSurvey:
    """The survey of one site."""

    def __init__(self, site: Site, reductions: Sequence[Reduction[Any]]) -> None:
        if site.dtype is None:
            raise InvalidRequestError(
                f"site {site.path!r} cannot be captured: {site.not_capturable_reason}", field="sites"
            )
        self._site = site
        self._passes: dict[Reduction[Any], Passes] = {each: passes_of(each, site) for each in reductions}
        self._asked: dict[Reduction[Any], tuple[Reduction[Any], ...]] = {
            reduction: tuple(next(passes)) for reduction, passes in self._passes.items()
        }
        self._sums: dict[Reduction[Any], Any] = {}
        self._results: dict[Reduction[Any], Any] = {}
        self.activation = Activation(site=site.path, kind=site.kind, dtype=site.dtype, shape=site.shape)

    @property
    def asked(self) -> tuple[Reduction[Any], ...]:
        """Returns what to ask of each batch in this pass; nothing if all is known."""
        return tuple(dict.fromkeys(each for asked in self._asked.values() for each in asked))

    @property
    def held_bytes(self) -> int:
        """Returns how many bytes are held of what is one for each example."""
        return sum(each.byte_size for each in self._sums.values() if isinstance(each, Rows))

    def check(self, slices: Sequence[Slice]) -> None:
        """Refuses a slice of the batch axis."""
        axis, axes = self._site.batch_axis, len(self._site.shape)
        if axis is not None and any(each.axis in {axis, axis - axes} for each in slices):
            raise InvalidRequestError(
                f"axis {axis} of {self._site.path!r} is the batch: a slice would cut each batch of the data set, "
                "not the data set. Leave examples out of the data set instead",
                field="slices",
            )

    def parts(self, activation: Activation, *, rows: int) -> dict[Reduction[Any], Any]:
        """Returns what a batch brought, to be taken."""
        if self._site.batch_axis is None:
            return {asked: activation[asked] for asked in self.asked}
        return {
            asked: addable(asked, activation[asked], rows=rows, axis=rows_axis(asked, self._site))
            for asked in self.asked
        }

    def take(self, activation: Activation, parts: Mapping[Reduction[Any], Any]) -> None:
        """Adds what a batch brought; of a value that is the same for any batch, the first is enough."""
        self.activation = replace(self.activation, shape=activation.shape)
        for asked, found in parts.items():
            if asked not in self._sums:
                self._sums[asked] = found
            elif self._site.batch_axis is not None:
                self._sums[asked] += found

    def turn(self, rows: int) -> None:
        """Ends a pass over data of so many examples."""
        axis = self._site.batch_axis
        sums, self._sums = self._sums, {}
        for reduction in tuple(self._asked):
            try:
                self._asked[reduction] = tuple(self._passes[reduction].send(sums))
            except StopIteration as done:
                del self._asked[reduction]
                self._results[reduction] = done.value
        ordered = {each: self._results[each] for each in self._passes if each in self._results}
        self.activation = replace(self.activation, results=ordered)
        if axis is not None:
            shape = list(self.activation.shape)
            shape[axis] = rows
            self.activation = replace(self.activation, shape=tuple(shape))
