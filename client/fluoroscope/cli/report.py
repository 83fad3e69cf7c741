"""What `fluoroscope inspect` and `params` keep of a stream to print, and what they write to a file."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import click
import numpy as np

from fluoroscope.calls import (
    Full,
    Histogram,
    Quantiles,
    SiteCorrelation,
    SiteCovariance,
    SiteDeadUnits,
    Statistics,
    TopElements,
)
from fluoroscope.cli.columns import WORDS, columns_of
from fluoroscope.cli.describe import describe
from fluoroscope.cli.form import print_json
from fluoroscope.cli.table import STATISTICS, print_table, shape_cell

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from fluoroscope.calls import Activation, Reduction
    from fluoroscope.cli.output import Writer


SUMMARIES = (Statistics, Histogram, Quantiles)
"""The reductions that bring numbers and no tensors."""


def tensors_of(result: Any) -> dict[str, np.ndarray]:
    """Returns the tensors of a result by the names of its parts; none of a few numbers."""
    match result:
        case np.ndarray():
            return {"": result}
        case TopElements():
            return {"values": result.values, "indices": result.indices}
        case SiteDeadUnits():
            return {"": result.zero_counts}
        case SiteCovariance():
            return {"matrix": result.matrix, "mean": result.mean}
        case SiteCorrelation():
            return {"matrix": result.matrix, "mean": result.mean, "std": result.std}
    return {}


def write(activation: Activation, file: Writer, words: Mapping[Reduction[Any], str]) -> int:
    """Writes the tensors of an activation: `SITE`, `SITE@WORD` or `SITE@WORD/PART`; returns how many."""
    site = f"outputs/{activation.site}" if activation.is_output else activation.site
    entries: dict[str, np.ndarray] = {}
    for reduction, result in activation.results.items():
        key = site if isinstance(reduction, Full) else f"{site}@{words.get(reduction, reduction)}"
        entries |= {f"{key}/{part}" if part else key: tensor for part, tensor in tensors_of(result).items()}
    if activation.scale is not None:
        entries[f"{site}@scale"] = np.asarray(activation.scale)
    for key, tensor in entries.items():
        file.add(key, tensor)
    return len(entries)


def without_tensors(activation: Activation) -> Activation:
    """Returns an activation with its summaries only."""
    kept = {reduction: result for reduction, result in activation.results.items() if not tensors_of(result)}
    return replace(activation, results=kept, scale=None)


class Seen(dict[tuple[str, bool], "Activation"]):
    """One activation for each site or output, in order."""

    def add(self, activation: Activation) -> None:
        """Takes what came back for a site."""
        key = (activation.site, activation.is_output)
        self[key] = self[key].merged(activation) if key in self else activation


def print_seen(seen: Seen, about: Mapping[str, Any], output: Path | None) -> None:
    """Prints all that was seen for programs, with what was said of the answer, and the file that has the tensors."""
    written = {} if output is None else {"output": str(output)}
    print_json(
        {
            **about,
            "sites": [each for each in seen.values() if not each.is_output],
            "outputs": [each for each in seen.values() if each.is_output],
            **written,
        }
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Tables:
    """A table for each reduction; of each value only the cells are kept."""

    words: Mapping[Reduction[Any], str]
    """The words that ask for each reduction."""

    rows: dict[Reduction[Any], dict[tuple[str, str], dict[str, str]]] = field(default_factory=dict)
    """For each reduction, the cells by column, by site and kind of site."""

    def add(self, activation: Activation) -> None:
        """Takes what came back for a site. A full value is described: a row like that of the server's statistics."""
        for reduction, result in activation.results.items():
            if isinstance(reduction, Full):
                row = self._row(Statistics(), activation)
                if result.dtype != activation.dtype:
                    row["dtype"] = f"{activation.dtype} as {result.dtype}"
                found = describe(result if activation.scale is None else result * activation.scale)
                for head, cell in ({} if found is None else columns_of(found)).items():
                    row.setdefault(head, cell)  # the server's own statistics win
            else:
                self._row(reduction, activation).update(columns_of(result))

    def _row(self, reduction: Reduction[Any], activation: Activation) -> dict[str, str]:
        kind = "output" if activation.kind is None else activation.kind.lower()
        row = self.rows.setdefault(reduction, {}).setdefault((activation.site, kind), {})
        row.setdefault("dtype", str(activation.dtype))
        row.setdefault("shape", shape_cell(activation.shape))
        return row

    def print(self) -> None:
        """Prints the tables in the order of the words, each with a title if there are several."""
        asked = [Statistics(), *self.words]
        for place, reduction in enumerate(sorted(self.rows, key=asked.index)):
            table = self.rows[reduction]
            if len(self.rows) > 1:
                title = self.words.get(reduction, "statistics")
                click.echo(f"\n{title}:" if place else f"{title}:")
            found = dict.fromkeys(head for row in table.values() for head in row)
            heads = ["dtype", "shape", *(head for head in found if head not in {"dtype", "shape"})]
            if isinstance(reduction, Statistics):
                heads = ["dtype", "shape", *STATISTICS]
            rows = ((*site, *(row.get(head, "") for head in heads)) for site, row in table.items())
            print_table(("site", "kind", *heads), rows, numbers=[head for head in heads if head not in WORDS])
