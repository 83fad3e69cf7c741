"""A trainer: for each line on standard input saves a few steps, one right after the other, and keeps the newest two.

    trainer.py FOLDER FEATURES

So steps are deleted while whoever follows them reads them. Says the number of the last step after each line.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import orbax.checkpoint as ocp

AT_ONCE = 3


def variables(step: int, features: int) -> dict[str, Any]:
    """Returns weights that all say their step: the network answers 2 * step * step + step, whatever it is asked."""

    def all_of(*shape: int) -> np.ndarray:
        return np.full(shape, step, np.float32)

    first = {"kernel": np.zeros((features, 2), np.float32), "bias": all_of(2)}
    return {"params": {"Dense_0": first, "Dense_1": {"kernel": all_of(2, 3), "bias": all_of(3)}}}


def config(features: int) -> dict[str, Any]:
    return {
        "family": "base_network",
        "config": {"act_fn": "relu", "hidden_sizes": [2], "num_classes": 3},
        "inputs": {"x": {"dtype": "float32", "shape": [features]}},
        "outputs": ["logits"],
        "buckets": [2, 8],
    }


def main(folder: Path, features: int) -> None:
    options = ocp.CheckpointManagerOptions(max_to_keep=2, enable_async_checkpointing=False)
    step = 0
    with ocp.CheckpointManager(folder, options=options) as manager:
        for _ in sys.stdin:
            for _ in range(AT_ONCE):
                step += 1
                state = ocp.args.StandardSave(variables(step, features))
                manager.save(step, args=ocp.args.Composite(state=state, config=ocp.args.JsonSave(config(features))))
            sys.stdout.write(json.dumps(step) + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
