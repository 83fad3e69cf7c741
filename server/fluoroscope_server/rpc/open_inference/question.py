"""What a request of this protocol asks to see inside the network, in its parameters."""

from __future__ import annotations

import string
from typing import TYPE_CHECKING

from fluoroscope_server.engine import Capture, SiteKind, check_names
from fluoroscope_server.errors import InvalidRequestError, nearest, quoted
from fluoroscope_server.rpc.decoding import MOST_KINDS, check_count

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fluoroscope_server.engine import ResultSpec
    from fluoroscope_server.rpc.open_inference.inference import open_inference_pb2 as messages

SITES, KINDS = "sites", "kinds"
"""The parameters that ask: globs of sites, and kinds of site, with commas between."""

MOST_PARAMETERS = 1_000
"""How many parameters one request may have, whoever knows them."""

_LETTERS = string.ascii_lowercase + "_-"

_KINDS = {kind.name.lower(): kind for kind in SiteKind}


def capture_of(request: messages.ModelInferRequest) -> Capture | None:
    """Returns what a request asks to capture; None if it asks for no site.

    Raises:
        InvalidRequestError: a parameter is no text, names no kind of site, or is a slip of the pen.
    """
    _check_names(request)
    sites, kinds = _words(request, SITES), _words(request, KINDS)
    if sites is None:
        if kinds is not None:
            raise InvalidRequestError(
                f"the parameter {KINDS!r} chooses among sites: send {SITES!r} too, such as 'Dense_*'",
                field=f"parameters[{KINDS}]",
            )
        return None
    return Capture(sites=tuple(sites), kinds=tuple(_kind(word) for word in kinds or ()))


def check_told_apart(results: Sequence[ResultSpec]) -> None:
    """Raises InvalidRequestError if a site has the name of an output that is wanted too: an answer has names only."""
    outputs = {each.name for each in results if each.site is None}
    for each in results:
        if each.site is not None and each.name in outputs:
            raise InvalidRequestError(
                f"{quoted(each.name)} is a site and an output, and the answer could not tell them apart: ask for the "
                "site without that output, or for both through InspectActivations",
                field=f"parameters[{SITES}]",
            )


def _check_names(request: messages.ModelInferRequest) -> None:
    """Refuses names that are nearly ours; others are let pass, since clients send some that other servers know."""
    check_count(len(request.parameters), MOST_PARAMETERS, "parameters", field="parameters")
    for name in request.parameters:
        meant = _SLIPS.get(name.lower())
        if meant is not None and name != meant:
            raise InvalidRequestError(
                f"there is no parameter {name!r}; nearest: {meant!r}", field=f"parameters[{name}]"
            )


def _slips_of(name: str) -> set[str]:
    """Returns a name, and what it becomes with a letter too few, too many, another, or two in the wrong order."""
    halves = [(name[:place], name[place:]) for place in range(len(name) + 1)]
    return {
        name,
        *(before + after[1:] for before, after in halves),
        *(before + letter + after for before, after in halves for letter in _LETTERS),
        *(before + letter + after[1:] for before, after in halves for letter in _LETTERS if after),
        *(before + after[1] + after[0] + after[2:] for before, after in halves if len(after) > 1),
    }


_SLIPS = {slip: name for name in (SITES, KINDS) for slip in _slips_of(name)}
"""What is meant by names that are nearly ours: found at once, since a request may have many parameters."""


def _words(request: messages.ModelInferRequest, name: str) -> list[str] | None:
    if name not in request.parameters:
        return None
    value = request.parameters[name]
    count, field = value.string_param.count(",") + 1, f"parameters[{name}]"
    if name == SITES:
        check_names(count, field=field)
    else:
        check_count(count, MOST_KINDS, "kinds", field=field)
    words = [word.strip() for word in value.string_param.split(",")]
    if value.WhichOneof("parameter_choice") != "string_param" or not all(words):
        raise InvalidRequestError(
            f"the parameter {name!r} is {_shown(value)}; expected a text such as 'Dense_*,relu:0' for sites, "
            f"or {', '.join(_KINDS)} for kinds",
            field=field,
        )
    return words


def _shown(value: messages.InferParameter) -> str:
    choice = value.WhichOneof("parameter_choice")
    if choice is None:
        return "not set"
    shown = getattr(value, choice)
    return quoted(shown) if isinstance(shown, str) else repr(shown)


def _kind(word: str) -> SiteKind:
    kind = _KINDS.get(word.lower())
    if kind is None:
        raise InvalidRequestError(
            f"{quoted(word)} is no kind of site; nearest: {nearest(word, _KINDS)}", field=f"parameters[{KINDS}]"
        )
    return kind
