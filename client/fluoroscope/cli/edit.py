"""Edits as words of the command line: `zero Dense_1 units=3,7`."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import click
import numpy as np

from fluoroscope.calls import (
    Add,
    FluoroscopeError,
    MeanAblate,
    PatchFromInputs,
    PatchFromRow,
    Scale,
    Set,
    Zero,
)
from fluoroscope.calls.inputs import as_dtype
from fluoroscope.cli.assignment import is_input, read_inputs
from fluoroscope.cli.cut import read_slice
from fluoroscope.cli.source import Numbers, read_value

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from fluoroscope.calls import Edit, Model

EDITS = """What to write while the network runs, --edit 'CHANGE SITE... [OPTION]...':
  zero SITE                    zeros
  set SITE to=VALUE            given values
  add SITE by=VALUE            a steering vector, or a number
  scale SITE by=VALUE          times a number, or a vector
  mean SITE                    the mean over the examples
  patch SITE row=0             what the value is for that example
  patch SITE INPUT=VALUE...    what it is for other inputs
SITE is a path or a glob; VALUE a number, JSON, or @FILE.npy. Options say which part of the value is meant:
  rows=0,2  units=3,7  slice=AXIS:START:STOP[:STEP]  kind=module"""
"""How edits are written, for help texts."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class EditForm:
    """An edit as it was written, whose inputs are not read yet."""

    change: str
    """The first word."""

    sites: tuple[str, ...]
    """The sites."""

    where: Mapping[str, Any] = field(default_factory=dict)
    """Which part of the value, in the words of `Edit`."""

    value: Any = None
    """What to write, an array; None if it says nothing of it."""

    rows: tuple[int, ...] = ()
    """The examples to patch from."""

    inputs: tuple[str, ...] = ()
    """The inputs to patch from, as words."""

    def edit(self, model: Model | None, *, cast: bool = False) -> Edit:
        """Returns the edit; its inputs are read only if it is told for which model.

        Raises:
            click.UsageError: An input cannot be read, or does not fit the model.
        """
        if self.inputs:
            arrays = {} if model is None else read_inputs(self.inputs, model, cast=cast)
            return PatchFromInputs(self.sites, arrays, **self.where)
        return _CHANGES[self.change](self)


_CHANGES: dict[str, Callable[[EditForm], Edit]] = {
    "zero": lambda form: Zero(form.sites, **form.where),
    "set": lambda form: Set(form.sites, form.value, **form.where),
    "add": lambda form: Add(form.sites, form.value, **form.where),
    "scale": lambda form: Scale(form.sites, form.value, **form.where),
    "mean": lambda form: MeanAblate(form.sites, **form.where),
    "patch": lambda form: PatchFromRow(form.sites, form.rows, **form.where),
}
WORDS = tuple(_CHANGES)
"""The words that edits begin with."""

_VALUES = {"set": "to", "add": "by", "scale": "by"}
"""What the value of a change is called."""


def read_edits(_: click.Context, __: click.Parameter, texts: tuple[str, ...]) -> tuple[EditForm, ...]:
    """Returns edits as they were written.

    Raises:
        click.BadParameter: A text is none.
    """
    return tuple(map(_read, texts))


def _read(text: str) -> EditForm:
    try:
        change, *words = shlex.split(text) or [""]
        form = EditForm(change=change, sites=tuple(word for word in words if not is_input(word)))
        for word in filter(is_input, words):
            form = _with(form, word)
        _check(form)
        form.edit(None).message()
    except (FluoroscopeError, ValueError) as error:
        raise click.BadParameter(f"{text!r}: {str(error).removesuffix('.')}.") from None
    return form


def _with(form: EditForm, word: str) -> EditForm:
    """Returns an edit with one more option."""
    key, _, value = word.partition("=")
    if key in _WHERE:
        name, read = _WHERE[key]
        return replace(form, where={**form.where, name: (*form.where.get(name, ()), *read(value))})
    if key == _VALUES.get(form.change):
        return replace(form, value=_value(value, key))
    if form.change == "patch":
        return replace(form, rows=_integers(value)) if key == "row" else replace(form, inputs=(*form.inputs, word))
    raise ValueError(f"{form.change or 'an edit'} knows no {key}; see --help")


def _check(form: EditForm) -> None:
    """Refuses an edit that does not say enough, or too much."""
    if form.change not in _CHANGES:
        raise ValueError(f"an edit begins with {', '.join(_CHANGES)}, such as 'zero Dense_1'")
    if not form.sites:
        raise ValueError(f"it names no site, such as in '{form.change} Dense_1'")
    if form.change in _VALUES and form.value is None:
        raise ValueError(f"it does not say what to write: give {_VALUES[form.change]}=VALUE")
    if form.change == "patch" and bool(form.inputs) == bool(form.rows):
        raise ValueError("it does not say what to patch from: give row=0, or INPUT=VALUE")


def _integers(words: str) -> tuple[int, ...]:
    try:
        return tuple(map(int, words.split(",")))
    except ValueError:
        raise ValueError(f"{words!r} are no whole numbers, such as 3,7") from None


def _value(word: str, key: str) -> np.ndarray:
    try:
        value = read_value(word, name=key)
    except click.UsageError as error:
        raise ValueError(error.message) from None
    if isinstance(value, Numbers):
        return as_dtype(value.values, None, name=key)
    if not isinstance(value, np.ndarray):
        raise ValueError(f"{key} is a picture; give numbers, or an .npy file")  # noqa: TRY004  # of a file, not of code
    return value


_WHERE: dict[str, tuple[str, Callable[[str], Iterable[Any]]]] = {
    "rows": ("rows", _integers),
    "units": ("units", _integers),
    "slice": ("slices", lambda word: [read_slice(word)]),
    "kind": ("kinds", lambda word: word.split(",")),
}
"""The options of every edit, by their word: what they say, and what reads them."""
