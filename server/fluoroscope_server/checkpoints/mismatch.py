"""The error of a checkpoint that does not fit the network: every leaf at fault, by path."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fluoroscope_server.errors import MismatchError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fluoroscope_server.checkpoints.leaf import LeafSpec
    from fluoroscope_server.checkpoints.matching import Match


def mismatch(
    subject: str, match: Match, stored: Mapping[str, LeafSpec], expected: Mapping[str, LeafSpec]
) -> MismatchError:
    """Returns the error that lists what is missing, what is wrong and what is extra.

    Args:
        subject: what the message calls the checkpoint.
        match: the view of the stored tree that fits best.
        stored: the leaves of the checkpoint, by path.
        expected: the leaves of the network's variables, by path.
    """
    fitting = len(match.sources) - len(match.wrong)
    where = f" under {match.root!r}" if match.root else ""
    parts = [
        f"{subject} does not fit the network: {fitting} of {len(expected)} leaves fit{where}",
        *_section("missing", [f"{name}: expected {expected[name]}" for name in match.missing]),
        *_section(
            "of the wrong shape or dtype",
            [f"{name}: expected {expected[name]}, found {stored[match.sources[name]]}" for name in match.wrong],
        ),
        *_section("extra, with no place in the network", [f"{path}: found {stored[path]}" for path in match.extra]),
        _advice(match, stored),
    ]
    return MismatchError("\n".join(parts))


def _section(title: str, lines: list[str]) -> list[str]:
    return [f"{len(lines)} {title}:", *(f"  {line}" for line in lines)] if lines else []


def _advice(match: Match, stored: Mapping[str, LeafSpec]) -> str:
    if match.sources:
        return "Check that the config (sizes, number of layers) is the one that the checkpoint was trained with."
    tops = sorted({path.partition("/")[0] for path in stored})
    return (
        f"No leaf was found. At its top the checkpoint has {', '.join(tops) or 'nothing'}: if the weights are "
        "deeper inside or have another name, set `prefix` to their path."
    )
