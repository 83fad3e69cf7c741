"""The canary: before a network serves, its weights and what it computes of plain inputs must be finite.

It finds what no digest can: a training that diverged, weights in too small a float, a network that is not the one
that was trained.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import numpy as np

from fluoroscope_server.engine import Capture, SiteKind, SiteStatistics, Statistics, nonfinite_leaves, paired, read
from fluoroscope_server.errors import FluoroscopeError, NotFiniteError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from fluoroscope_server.engine import Engine
    from fluoroscope_server.families import Variables
    from fluoroscope_server.model_config import Canary
    from fluoroscope_server.signature import TensorSpec

ALLOW = "If that is meant to be, say `canary = {allow_nonfinite = true}` in the model's config"

_MOST_LEAVES = 8
_SEED = 8500


def check_weights(variables: Variables, canary: Canary) -> None:
    """Refuses weights that are not finite, unless the config allows them.

    Raises:
        NotFiniteError: the message lists the leaves.
    """
    bad = {} if canary.allow_nonfinite else nonfinite_leaves(variables)
    if not bad:
        return
    some = "; ".join(f"{path}: {_counted(*counts)}" for path, counts in itertools.islice(bad.items(), _MOST_LEAVES))
    more = f"; and {len(bad) - _MOST_LEAVES} more" if len(bad) > _MOST_LEAVES else ""
    raise NotFiniteError(
        f"the weights are not finite: {some}{more}. Did the training diverge? Serve an earlier step. {ALLOW}"
    )


def try_forward(engine: Engine, canary: Canary) -> None:
    """Runs the network on zeros, and on a batch that looks random and is always the same, unless the config forbids it.

    Floats are drawn evenly from 0 to 1, and integers from 0 and 1: tokens and classes that every network knows.

    Raises:
        NotFiniteError: an output holds NaN or infinite elements. The message names the first site that does.
    """
    if canary.allow_nonfinite or not canary.run:
        return
    bucket = engine.buckets[0]
    for what, inputs in _batches(engine, bucket).items():
        outputs = dict(zip(engine.signature.output_names, engine.predict(bucket, inputs), strict=True))
        for name, counts in nonfinite_leaves(outputs).items():
            raise NotFiniteError(
                f"of {what}, the network computes an output {name!r} that is not finite ({_counted(*counts)})."
                f"{_first_site(engine, bucket, inputs)} Serve an earlier step. {ALLOW}"
            )


def _batches(engine: Engine, bucket: int) -> Mapping[str, list[np.ndarray]]:
    generator = np.random.default_rng(_SEED)
    specs = engine.signature.inputs
    return {
        "zeros": [np.zeros(spec.with_rows(bucket), spec.dtype) for spec in specs],
        "numbers drawn from 0 to 1": [_drawn(spec, bucket, generator) for spec in specs],
    }


def _drawn(spec: TensorSpec, rows: int, generator: np.random.Generator) -> np.ndarray:
    drawn = generator.random(spec.with_rows(rows))
    return (drawn if _holds_fractions(spec.dtype) else drawn.round()).astype(spec.dtype)


def _holds_fractions(dtype: np.dtype) -> bool:
    return complex(np.asarray(0.5).astype(dtype)[()]) == 0.5


def _first_site(engine: Engine, bucket: int, inputs: Sequence[np.ndarray]) -> str:
    """Returns a sentence that names the first site whose value is not finite; nothing if it cannot be found."""
    for kinds in ((SiteKind.MODULE,), ()):  # a bare function has no modules
        try:
            inspection = engine.inspect(
                [Capture(sites=("**",), kinds=kinds, reductions=(Statistics(),))], (), rows=bucket
            )
            results = engine.run(engine.program(inspection.plan).result(), inputs, inspection)
            for spec, arrays in paired(inspection.results, itertools.chain.from_iterable(results)):
                statistics = read(spec, arrays)
                if isinstance(statistics, SiteStatistics) and (statistics.nan_count or statistics.inf_count):
                    counted = _counted(statistics.nan_count, statistics.inf_count)
                    return f" The first value that is not finite is that of {spec.name!r} ({counted})."
        except FluoroscopeError:
            continue
    return ""


def _counted(nan: int, infinite: int) -> str:
    return " and ".join(f"{count:,} {word}" for count, word in ((nan, "NaN"), (infinite, "infinite")) if count)
