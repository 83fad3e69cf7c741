"""The kinds of sites."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

from fluoroscope.calls.argument import several
from fluoroscope.calls.errors import InvalidRequestError
from fluoroscope.v1 import inspection_pb2

if TYPE_CHECKING:
    from collections.abc import Iterable


class SiteKind(StrEnum):
    """What kind of place a site is."""

    MODULE = "MODULE"
    """The output of a module of the network."""

    NAMED = "NAMED"
    """A value that the network's author named with `jax.ad_checkpoint.checkpoint_name`."""

    EQUATION = "EQUATION"
    """The result of one equation of the network's jaxpr, or of one function called in it."""

    PARAMETER = "PARAMETER"
    """A leaf of the network's variables, such as `params/Dense_0/kernel`. Only listed if asked for by this kind; read
    with `parameters`."""

    INPUT = "INPUT"
    """What a module is called with, where no module returned it. Only there if asked for: by this kind, or by a name
    or glob one of whose segments is `input`."""

    UNKNOWN = "UNKNOWN"
    """A kind that the server knows and this version of the client does not."""


_NUMBERS = {
    SiteKind.MODULE: inspection_pb2.SITE_KIND_MODULE,
    SiteKind.NAMED: inspection_pb2.SITE_KIND_NAMED,
    SiteKind.EQUATION: inspection_pb2.SITE_KIND_EQUATION,
    SiteKind.PARAMETER: inspection_pb2.SITE_KIND_PARAMETER,
    SiteKind.INPUT: inspection_pb2.SITE_KIND_INPUT,
}
_KINDS = {number: kind for kind, number in _NUMBERS.items()}


def kinds_to_wire(kinds: str | Iterable[str]) -> list[inspection_pb2.SiteKind.ValueType]:
    """Returns the contract's numbers for kinds given by name, in any case; one name stands for itself.

    Raises:
        InvalidRequestError: There is no such kind.
    """
    names = several(kinds)
    try:
        return [_NUMBERS[SiteKind(name.upper())] for name in names]
    except (ValueError, KeyError, AttributeError):  # of what is no name, no kind, or unknown
        known = ", ".join(_NUMBERS)
        raise InvalidRequestError(
            f"kinds are {', '.join(map(repr, names))}; the kinds that there are: {known}", field="kinds"
        ) from None


def kind_from_wire(number: inspection_pb2.SiteKind.ValueType) -> SiteKind:
    """Returns the kind for a number of the contract."""
    return _KINDS.get(number, SiteKind.UNKNOWN)
