"""The words behind the model on a command line: which are inputs, and what they are."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import click

from fluoroscope.cli.fit import fit
from fluoroscope.cli.source import STDIN, load, read_value, split_key

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy as np

    from fluoroscope.calls import Model
    from fluoroscope.cli.source import Value

_INPUT = re.compile(r"[^\s=@*?\[\]]+=", re.ASCII)

INPUTS: Final = """Each INPUT=VALUE gives one input of the model. VALUE is one of
  @x.npy                 an array
  @x.npz, @x.npz:KEY     one of several arrays; @all.npz alone gives all inputs by name
  @x.json, [[0.5, 1]]    numbers, in the dtype that the model wants
  @photo.png             an image, made to fit: size, channels, floats scaled to 0..1
  @-                     any of these from standard input
The name may be left out where the model has one input, but not before a single number.
A single example gets its batch axis."""
"""How inputs are given, for help texts."""


def is_input(word: str) -> bool:
    """Returns whether a word is an input (`image=@x.npy`, `@all.npz`, `[[0.5, 1]]`, `-`) and not a glob of sites."""
    return word.startswith(("@", "[")) or word == STDIN or _INPUT.match(word) is not None


def read_inputs(words: Iterable[str], model: Model, *, cast: bool) -> dict[str, np.ndarray]:
    """Returns the inputs that words give, as the model wants them.

    Raises:
        click.UsageError: A value cannot be read or does not fit, or an input is missing, unknown or
            given twice.
    """
    values: dict[str, Value] = {}
    for word in words:
        for name, value in _read(word, model):
            if name in values:
                raise click.UsageError(f"the input {name} is given twice.")
            values[name] = value
    specs = {spec.name: spec for spec in model.inputs}
    wrong = [f"no input {name!r}" for name in values if name not in specs]
    wrong += [f"{name!r} is missing" for name in specs if name not in values]
    if wrong:
        wanted = "; ".join(map(str, model.inputs))
        raise click.UsageError(f"{', '.join(wrong)}. The model {model.name} wants {wanted}.")
    return {name: fit(value, specs[name], cast=cast) for name, value in values.items()}


def _read(word: str, model: Model) -> list[tuple[str, Value]]:
    if not is_input(word):
        raise click.UsageError(
            f"{word!r} is no INPUT=VALUE; give an input as {model.inputs[0].name}=@FILE; sites are for `inspect`."
        )
    if _INPUT.match(word):
        name, _, text = word.partition("=")
        return [(name, read_value(text, name=name))]
    path, key = split_key(word.removeprefix("@"))
    only = model.inputs[0].name if len(model.inputs) == 1 else None
    is_json = word.startswith("[")
    if only is not None and (key is not None or is_json):
        return [(only, read_value(word, name=only))]
    loaded = None if is_json else load(path)
    if isinstance(loaded, dict):
        if only is not None and len(loaded) == 1:
            return [(only, array) for array in loaded.values()]
        return list(loaded.items())
    if only is None or loaded is None:
        names = ", ".join(spec.name for spec in model.inputs)
        raise click.UsageError(f"which input is {word}? The model has {names}: write NAME={word}.")
    return [(only, loaded)]
