"""Predictions of more rows than the largest bucket has: run in parts, and answered as one."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from fluoroscope_server.errors import LimitExceededError, counted
from fluoroscope_server.serving.stages import StageClock

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping

    from fluoroscope_server.engine import Engine
    from fluoroscope_server.serving.batcher import Batcher

Inputs: TypeAlias = "Mapping[str, np.ndarray]"
"""The inputs of a prediction, by name."""

Outputs: TypeAlias = "dict[str, np.ndarray]"
"""Its outputs, by name."""

MOST_PARTS = 16
"""How many times the rows of the largest bucket a request may have."""


def check_rows(engine: Engine, rows: int) -> int:
    """Returns how many rows of a prediction may run at once: all, or those of the largest bucket.

    Raises:
        LimitExceededError: there are too many rows, even for parts; or no parts may be made, since the network mixes
            the rows of a batch.
        InvalidRequestError: the network mixes the rows of a batch, and no bucket has just so many.
    """
    largest = engine.joined_rows
    if rows <= largest:
        return rows
    if not largest:
        engine.bucket_for(rows)
        return rows
    if rows > MOST_PARTS * largest:
        raise LimitExceededError(
            f"the inputs have {counted(rows, 'row')}, and the limit is {MOST_PARTS * largest}, {MOST_PARTS} times the "
            "largest bucket of this model: send fewer rows in each request, or let the operator add a larger bucket to "
            "the model's config",
            field="inputs",
            reason="TOO_MANY_ROWS",
        )
    return largest


async def predict_in_parts(
    batcher: Batcher[Inputs, Outputs],
    inputs: Inputs,
    rows: int,
    clock: StageClock,
    *,
    size: int,
    client: Hashable,
) -> Outputs:
    """Returns the outputs of all rows, computed `size` at a time; what others ask meanwhile takes its turn between.

    The stages are those of the last part: the others are what it waits for.
    """
    parts: list[asyncio.Future[Outputs]] = []
    try:
        for start in range(0, rows, size):
            part = {name: array[start : start + size] for name, array in inputs.items()}
            count = min(size, rows - start)
            own = clock if start + count == rows else StageClock()
            parts.append(batcher.submit(part, count, own, client=client))
        answers = await asyncio.gather(*parts)
    finally:
        for each in parts:
            each.cancel()
    return {name: np.concatenate([answer[name] for answer in answers]) for name in answers[0]}
