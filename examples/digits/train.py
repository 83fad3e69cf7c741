"""Trains the tutorial's network on scikit-learn's handwritten digits, and writes Orbax checkpoints.

python examples/digits/train.py FOLDER

FOLDER gets `digits/`, one checkpoint for each of a few steps; `images.npz`, the images that it learned from and
was tested with; and `trained.json`, the accuracy it reached.
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dataset import Dataset
from recipe import Recipe
from record import Record

if TYPE_CHECKING:
    from collections.abc import Iterator

    import jax

    Batch = tuple[np.ndarray, np.ndarray]


def read_images(recipe: Recipe) -> Dataset:
    """Returns the images of scikit-learn, a fixed part of them set aside to test with."""
    from sklearn.datasets import load_digits  # noqa: PLC0415 (its import takes seconds, and something is said before)

    digits = load_digits()
    order = np.random.default_rng(recipe.seed).permutation(len(digits.target))
    is_test = np.zeros(len(order), bool)
    is_test[order[: recipe.test_images]] = True
    # A pixel is a number from 0 to 16.
    images = (digits.images / 16).astype(np.float32)
    return Dataset(images=images, labels=digits.target.astype(np.int32), is_test=is_test)


def batches(data: Dataset, recipe: Recipe) -> Iterator[list[Batch]]:
    """Yields for each epoch the batches of images to learn from, each time in another order."""
    chance = np.random.default_rng(recipe.seed)
    learned = np.flatnonzero(~data.is_test)
    size = recipe.batch_size
    for _ in range(recipe.epochs):
        order = chance.permutation(learned)
        # The rest that fills no batch is left out, so that every batch runs through one compiled program.
        starts = range(0, len(order) - size + 1, size)
        yield [(data.images[part], data.labels[part]) for part in (order[start : start + size] for start in starts)]


def train(data: Dataset, recipe: Recipe) -> Iterator[tuple[int, Any, float]]:
    """Trains the network; yields step, variables and test accuracy for each checkpoint that is due."""
    import jax  # noqa: PLC0415 (its import takes seconds, and something is said before)
    import optax  # noqa: PLC0415 (its import takes seconds, and something is said before)

    from fluoroscope_server.families.base_network import build  # noqa: PLC0415 (its import takes seconds, and something is said before)

    network = build(recipe.model_config["config"])
    epochs = list(batches(data, recipe))
    optimizer = optax.adam(optax.cosine_decay_schedule(recipe.learning_rate, sum(map(len, epochs))))

    def loss(variables: Any, images: jax.Array, labels: jax.Array) -> jax.Array:
        logits = network.apply(variables, images)
        mean: jax.Array = optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()
        return mean

    @jax.jit
    def learn(variables: Any, state: Any, images: jax.Array, labels: jax.Array) -> tuple[Any, Any]:
        updates, state = optimizer.update(jax.grad(loss)(variables, images, labels), state)
        return optax.apply_updates(variables, updates), state

    @jax.jit
    def predict(variables: Any, images: jax.Array) -> jax.Array:
        logits = network.apply(variables, images)
        assert isinstance(logits, jax.Array)
        return logits.argmax(axis=-1)

    variables = jax.jit(network.init)(jax.random.key(recipe.seed), data.images[:1])
    state = optimizer.init(variables)
    step = 0
    for epoch, parts in enumerate(epochs, start=1):
        for images, labels in parts:
            variables, state = learn(variables, state, images, labels)
            step += 1
        if epoch % (recipe.epochs // recipe.checkpoints) == 0:
            right = np.asarray(predict(variables, data.images[data.is_test])) == data.labels[data.is_test]
            yield step, variables, float(right.mean())


def write_checkpoints(folder: Path, data: Dataset, recipe: Recipe) -> tuple[list[int], float]:
    """Trains, and saves weights and config at each step that is due; returns the steps and the last accuracy."""
    import orbax.checkpoint as ocp  # noqa: PLC0415 (its import takes seconds, and something is said before)

    steps, accuracy = [], 0.0
    with ocp.CheckpointManager(folder.resolve(), item_names=("params", "config")) as checkpoints:
        for step, variables, accuracy in train(data, recipe):
            items = ocp.args.Composite(
                params=ocp.args.StandardSave(variables["params"]), config=ocp.args.JsonSave(recipe.model_config)
            )
            checkpoints.save(step, args=items)
            steps.append(step)
            say(f"step {step:>4}  {accuracy:6.1%} of the test images are named rightly; a checkpoint is written")
        checkpoints.wait_until_finished()
    return steps, accuracy


def say(line: str) -> None:
    """Prints a line at once, whoever reads it."""
    print(line, flush=True)


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path, help="where to write; made if it is not there")
    folder: Path = parser.parse_args().folder
    if (folder / "digits").exists():
        parser.error(f"{folder} has checkpoints already; remove it, or give another folder")
    logging.disable(logging.INFO)  # Orbax tells each of its steps
    folder.mkdir(parents=True, exist_ok=True)
    recipe = Recipe()
    data = read_images(recipe)
    count, height, width = data.images.shape
    say(f"{count:,} images of {height} x {width} pixels, {data.is_test.sum()} of them kept to test with")
    say(f"a network of layers {recipe.layers}, with {recipe.act_fn} between them; compiling ...")
    steps, accuracy = write_checkpoints(folder / "digits", data, recipe)
    data.write(folder)
    Record.of(folder, recipe, accuracy=accuracy, steps=steps).write(folder)


if __name__ == "__main__":
    main()
