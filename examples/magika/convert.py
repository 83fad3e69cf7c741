"""Writes the network inside the `magika` package as an Orbax checkpoint that fluoroscope can serve.

python examples/magika/convert.py CHECKPOINT
"""

from __future__ import annotations

import argparse
import logging
import shlex
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import orbax.checkpoint as ocp

from features import BEGIN_SIZE, END_SIZE
from network import NetworkConfig
from weights import packaged_model, read_variables

if TYPE_CHECKING:
    from weights import PackagedModel

FOLDER = Path(__file__).resolve().parent


def model_config(model: PackagedModel) -> dict[str, Any]:
    """Returns what the server needs to know: how to make the network, its inputs and its outputs."""
    return {
        "family": "network:build",
        "config": asdict(NetworkConfig(classes=len(model.labels))),
        "inputs": {"bytes": {"dtype": "int32", "shape": [BEGIN_SIZE + END_SIZE]}},
        "outputs": ["probabilities"],
    }


def write_checkpoint(folder: Path, *, step: int, variables: dict[str, Any], config: dict[str, Any]) -> None:
    """Saves `variables` and `config` as the step `step` of the Orbax checkpoint in `folder`.

    Raises:
        ValueError: if the checkpoint has that step already; nothing is overwritten.
    """
    items = ocp.args.Composite(state=ocp.args.StandardSave(variables), config=ocp.args.JsonSave(config))
    with ocp.CheckpointManager(folder.resolve(), item_names=("state", "config")) as checkpoints:
        if step in checkpoints.all_steps():
            raise ValueError(f"{folder} has step {step} already; remove it, or give another folder")
        checkpoints.save(step, args=items)
        checkpoints.wait_until_finished()


def convert(folder: Path) -> int:
    """Writes the checkpoint in `folder`; returns its step, which is the epoch the model was saved at."""
    model = packaged_model()
    variables = read_variables(model.graph)
    write_checkpoint(folder, step=model.epoch, variables=variables, config=model_config(model))
    count = sum(leaf.size for leaf in jax.tree.leaves(variables))
    print(f"read     {model.graph.name} of the magika package: {count:,} weights, {len(model.labels)} file types")
    print(f"wrote    {folder}: step {model.epoch}, items `state` and `config`")
    return model.epoch


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("checkpoint", type=Path, help="the folder to write; made if it is not there")
    folder: Path = parser.parse_args().checkpoint
    logging.disable(logging.INFO)  # Orbax tells each of its steps
    try:
        convert(folder)
    except ValueError as error:
        parser.error(str(error))
    place = shlex.quote(str(folder))
    print(f"serve it PYTHONPATH={shlex.quote(str(FOLDER))} fluoroscope-server serve --model magika={place}")
    print("and ask  python examples/magika/identify.py FILE...")


if __name__ == "__main__":
    main()
