"""Says what type files are of, by asking a running server; needs no JAX on this side.

python examples/magika/identify.py FILE...
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

import fluoroscope
from features import TooShortError, tokens_of_file

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    import numpy.typing as npt

    Tokens = npt.NDArray[np.int32]
    Predict = Callable[[Tokens], npt.NDArray[np.float32]]

LABELS = Path(__file__).resolve().with_name("labels.txt").read_text().split()
"""The name of each class, in the order of the network's output."""

BATCH = 8
"""How many files go into one request."""


def identify(tokens: list[Tokens], predict: Predict) -> Iterator[tuple[str, float]]:
    """Yields the most probable type of each file and its probability, in order.

    Args:
        tokens: what the network reads of each file, int32 of shape `(2048,)`.
        predict: from tokens of shape `(batch, 2048)` to probabilities of shape `(batch, classes)`.
    """
    for start in range(0, len(tokens), BATCH):
        for row in predict(np.stack(tokens[start : start + BATCH])):
            best = int(row.argmax())
            yield LABELS[best], float(row[best])


def read(paths: Iterable[Path]) -> dict[Path, Tokens]:
    """Returns the tokens of each file; says on stderr why there are none for some."""
    tokens = {}
    for path in paths:
        try:
            tokens[path] = tokens_of_file(path)
        except (TooShortError, OSError) as error:
            print(f"{path}: {error}", file=sys.stderr)
    return tokens


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("files", type=Path, nargs="+", metavar="FILE")
    parser.add_argument("--server", default="localhost:8500", help="host:port; %(default)s unless given")
    parser.add_argument("--model", default="magika", help="the model's name there; %(default)s unless given")
    arguments = parser.parse_args()
    tokens = read(arguments.files)
    with fluoroscope.Client(arguments.server) as client:

        def predict(batch: Tokens) -> npt.NDArray[np.float32]:
            return client.predict(arguments.model, {"bytes": batch})["probabilities"]

        try:
            for path, (label, probability) in zip(tokens, identify(list(tokens.values()), predict), strict=True):
                print(f"{label:<16} {probability:6.1%}  {path}")
        except fluoroscope.FluoroscopeError as error:
            sys.exit(str(error))
    sys.exit(len(tokens) < len(set(arguments.files)))


if __name__ == "__main__":
    main()
