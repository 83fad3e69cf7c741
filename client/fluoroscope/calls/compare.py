"""The operation that compares two versions of a model, or two inputs of one."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from google.protobuf.message import DecodeError

from fluoroscope.calls.argument import building, names_of
from fluoroscope.calls.comparison import Comparison, SiteComparison, left_out
from fluoroscope.calls.errors import CorruptStreamError, IncompleteStreamError, InvalidRequestError
from fluoroscope.calls.exchange import Exchange, StreamCall
from fluoroscope.calls.inputs import as_arrays, fill_inputs
from fluoroscope.calls.kind import kinds_to_wire
from fluoroscope.calls.selector import fill_version
from fluoroscope.v1 import inspection_pb2
from fluoroscope.wire import Arrived

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from fluoroscope.calls.exchange import Steps
    from fluoroscope.calls.inputs import Inputs

Version: TypeAlias = "int | str | None"
"""A checkpoint step, a label, or None for the version that serves now."""


def compare(
    model: str,
    inputs: Inputs,
    other_inputs: Inputs | None = None,
    *,
    versions: tuple[Version, Version] | None = None,
    sites: str | Sequence[str] = "**",
    kinds: str | Iterable[str] = (),
    rtol: float = 1e-5,
    atol: float = 1e-8,
    timeout: float | None = None,
) -> Steps[StreamCall[SiteComparison, Comparison]]:
    """Compares what two versions of a model, or one on two batches of inputs, compute at the chosen sites.

    Both sides run on the server, which sends a few numbers for each site. The second side is what the first is
    expected to be, as in `numpy.testing.assert_allclose(actual, desired)`.

    Args:
        model: The name of the model.
        inputs: An array for each input of the model, as for `predict`, for the first side.
        other_inputs: The same for the second side, with as many rows. None means that both run on `inputs`.
        versions: The checkpoint steps, or labels, of the first and the second side; None in place of one means the
            version that serves now. None means that this one is both.
        sites: Paths or globs of sites: `"Dense_0"`, `["layers_*/mlp", "head"]`, `"**"` for all.
        kinds: Keep only sites of these kinds: "MODULE", "NAMED", "EQUATION", in any case, or `SiteKind`.
        rtol: An element diverges if `|a - b| > atol + rtol * |b|`, as `numpy.allclose` has it. NaN equals NaN.
        atol: See `rtol`.
        timeout: How many seconds the whole may take. None means what the client was made with.

    Returns:
        The comparisons by site, in execution order; `first_divergence` names the first site that diverges, and
        `not_compared` says why sites are missing.

    Raises:
        NotFoundError: No such model or version, or a site that neither side has; the message lists the nearest names.
        InvalidRequestError: Nothing is given to compare with, the inputs do not fit the model or have other numbers of
            rows, or a glob matches nothing on either side.
        NotCapturableError: Nothing that was asked for can be compared; the message says why.
        LimitExceededError: The server is too busy.
        IncompleteStreamError: The stream ended early; the message says what came.
        CorruptStreamError: What came is not what a server sends.
    """
    if other_inputs is None and versions is None:
        raise InvalidRequestError(
            "there is nothing to compare with: give other_inputs, or versions=(FIRST, SECOND)", field="versions"
        )
    first, second = _pair(versions)
    with building():
        request = inspection_pb2.CompareActivationsRequest(
            model=model,
            sites=names_of(sites, "sites"),
            kinds=kinds_to_wire(kinds),
            rtol=rtol,
            atol=atol,
        )
    for side, version, given in ((request.left, first, inputs), (request.right, second, other_inputs)):
        side.SetInParent()
        step, label = (None, version) if isinstance(version, str) else (version, None)
        fill_version(side, step, label)
        if given is not None:
            arrays = yield from as_arrays(given, model=model, version=step, label=label, timeout=timeout)
            fill_inputs(side.inputs, arrays)
    exchange = Exchange(
        method="/fluoroscope.v1.InspectionService/CompareActivations",
        request=request.SerializeToString(),
        timeout=timeout,
        patience=600.0,
        repeatable=True,
    )
    return StreamCall(exchange=exchange, reader=ComparisonReader())


class ComparisonReader:
    """Makes comparisons of the messages of one stream."""

    __slots__ = ("_due", "_header", "_seen", "_trailer")

    def __init__(self) -> None:
        self._header: inspection_pb2.ComparisonHeader | None = None
        self._trailer: inspection_pb2.ComparisonTrailer | None = None
        self._due: list[int] = []
        self._seen = 0

    def feed(self, message: bytes) -> SiteComparison | None:
        """Takes the next message; returns the comparison that it is, if it is one.

        Raises:
            CorruptStreamError: The message is not one that may come here.
        """
        try:
            frame = inspection_pb2.CompareActivationsResponse.FromString(message)
        except DecodeError as error:
            raise _corrupt(f"a message of {len(message)} bytes is no CompareActivationsResponse: {error}") from None
        kind = frame.WhichOneof("frame") or "message of no known kind"
        if (kind == "header") is not (self._header is None) or self._trailer is not None:
            raise _corrupt(f"a {kind} came where none may come")
        if kind == "comparison":
            return self._compared(frame.comparison)
        if kind == "header":
            self._header = frame.header
            self._due = [place for place, site in enumerate(frame.header.sites) if not left_out(site)]
        elif kind == "trailer":
            self._close(frame.trailer)
        else:
            raise _corrupt(f"a {kind} came")
        return None

    def finish(self) -> None:
        """Takes note that the stream has ended.

        Raises:
            IncompleteStreamError: It should not have.
        """
        if self._trailer is None:
            arrived = self._arrived()
            raise IncompleteStreamError(f"the stream ended without its trailer: {arrived}. Ask again.", arrived=arrived)

    def progress(self) -> Arrived | None:
        """Returns what has come so far and what has not; None if nothing has."""
        return None if self._header is None else self._arrived()

    def collect(self, items: Sequence[SiteComparison]) -> Comparison:
        """Returns all comparisons of the finished stream."""
        header = self._header or inspection_pb2.ComparisonHeader()
        return Comparison(items, header=header, trailer=self._trailer or inspection_pb2.ComparisonTrailer())

    def _arrived(self) -> Arrived:
        """Returns what has come so far, be it nothing."""
        sites = () if self._header is None else self._header.sites
        names = tuple(sites[place].path for place in self._due)
        missing = names[self._seen :]
        return Arrived(
            complete=names[: self._seen],
            partial=None,
            partial_bytes=0,
            partial_size=0,
            missing=missing,
            where=f"site {missing[0]!r}" if missing else "",
            announced=self._header is not None,
        )

    def _compared(self, message: inspection_pb2.SiteComparison) -> SiteComparison:
        if self._header is None or self._seen >= len(self._due) or message.site != self._due[self._seen]:
            raise _corrupt(f"the comparison of site {message.site} came where another is due")
        self._seen += 1
        return SiteComparison.from_wire(message, self._header.sites[message.site])

    def _close(self, trailer: inspection_pb2.ComparisonTrailer) -> None:
        if self._seen != len(self._due) or trailer.comparison_count != self._seen:
            raise _corrupt(f"the trailer came too early: {self._arrived()}")
        if trailer.HasField("first_divergence") and trailer.first_divergence not in self._due:
            raise _corrupt(f"the trailer names site {trailer.first_divergence}, which was not compared")
        self._trailer = trailer


def _pair(versions: tuple[Version, Version] | None) -> tuple[Version, Version]:
    if versions is None:
        return None, None
    try:
        first, second = versions
    except (TypeError, ValueError):
        raise InvalidRequestError(
            f"versions are {versions!r}; expected two, such as (100, 200)", field="versions"
        ) from None
    return first, second


def _corrupt(what: str) -> CorruptStreamError:
    return CorruptStreamError(f"{what}. Ask again; nothing of this stream can be trusted.")
