"""The places in a network whose values can be captured, and the operation that lists them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from fluoroscope.calls.answer import read_answer
from fluoroscope.calls.argument import building, names_of
from fluoroscope.calls.errors import ServerError
from fluoroscope.calls.exchange import Exchange
from fluoroscope.calls.kind import kind_from_wire, kinds_to_wire
from fluoroscope.calls.model import BATCH
from fluoroscope.calls.selector import fill_version
from fluoroscope.v1 import inspection_pb2
from fluoroscope.wire import DTYPES

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy as np

    from fluoroscope.calls.exchange import Steps
    from fluoroscope.calls.kind import SiteKind


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """A place in a network whose value can be captured."""

    path: str
    """Its name, unique in the model: `Dense_0`, `layers_3/attn/softmax:0`."""

    kind: SiteKind
    """What kind of place it is."""

    dtype: np.dtype | None
    """The type of each element. None if the contract, or this version of the client, has no such type:
    `not_capturable_reason` names it."""

    shape: tuple[int, ...]
    """The size of each axis of the value, outermost first. -1 marks the batch axis."""

    bytes_per_example: int
    """The bytes that one example adds to the value; the whole value if it has no batch axis."""

    not_capturable_reason: str
    """Why the value cannot be captured. Empty means that it can."""

    flops_fraction: float
    """Which part of the network's floating point operations must be done to know the value, from 0 to 1."""

    @property
    def batch_axis(self) -> int | None:
        """Returns which axis is the batch; None if the value is the same for any batch."""
        return self.shape.index(BATCH) if BATCH in self.shape else None

    @property
    def capturable(self) -> bool:
        """Returns whether the value can be captured."""
        return not self.not_capturable_reason

    @classmethod
    def from_wire(cls, message: inspection_pb2.Site) -> Site:
        """Returns the site of a message."""
        dtype, reason = DTYPES.get(message.data_type), message.not_capturable_reason
        if message.data_type and dtype is None and not reason:
            reason = f"its data type is {message.data_type}, which a newer version of the client may know"
        return cls(
            path=message.path,
            kind=kind_from_wire(message.kind),
            dtype=dtype,
            shape=tuple(message.shape),
            bytes_per_example=message.bytes_per_example,
            not_capturable_reason=reason,
            flops_fraction=message.flops_fraction,
        )


def list_sites(
    model: str,
    *globs: str,
    kinds: str | Iterable[str] = (),
    version: int | None = None,
    label: str | None = None,
    timeout: float | None = None,
) -> Steps[list[Site]]:
    """Lists the sites of a model in execution order. The server runs nothing for it.

    Args:
        model: The name of the model.
        *globs: Keep only sites that match one of these: `*` matches within a path segment, `**` across
            segments, `?` one character. None given means all sites.
        kinds: Keep only sites of these kinds: "MODULE", "NAMED", "EQUATION", in any case, or `SiteKind`. "INPUT" and
            "PARAMETER" are only there if asked for.
        version: The checkpoint step to look at. None means the one that serves now.
        label: The label of the version, in place of its number.
        timeout: How many seconds each page may take. None means what the client was made with.

    Raises:
        NotFoundError: No such model, version or label.
        InvalidRequestError: No such kind, or a bad glob.
    """
    with building():
        request = inspection_pb2.ListSitesRequest(
            model=model, globs=names_of(globs, "globs"), kinds=kinds_to_wire(kinds)
        )
    fill_version(request, version, label)
    found: list[Site] = []
    first = 0
    while True:
        answer = yield Exchange(
            method="/fluoroscope.v1.InspectionService/ListSites",
            request=request.SerializeToString(),
            timeout=timeout,
            repeatable=True,
        )
        page = read_answer(inspection_pb2.ListSitesResponse, answer)
        if found and page.version != first:
            raise ServerError(
                f"version {page.version} of {model!r} began to serve while the sites of version {first} were "
                "listed: ask again, or say which version="
            )
        first = page.version
        found += map(Site.from_wire, page.sites)
        if not page.next_page_token:
            return found
        request.page_token = page.next_page_token
