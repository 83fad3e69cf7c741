"""A setting: one name for a flag, a variable of the environment and a key of a file, and what may be written there."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import itertools
import json
import math
import textwrap
import types
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Union, get_args, get_origin, get_type_hints

from fluoroscope_server.errors import SettingsError

MIB = 1 << 20
PREFIX = "FLUOROSCOPE_"
"""What the variables of the environment begin with."""

_TRUTHS = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}


def setting(
    default: Any,
    *,
    name: str | None = None,
    metavar: str | None = None,
    least: float | None = None,
    most: float | None = None,
    choices: tuple[str, ...] = (),
    unset: str = "",
) -> Any:
    """Returns the field of a setting of which more is to be said than its type and its default.

    Args:
        default: its value if nothing else is said.
        name: its name, if that is not the field's with dashes, without `_seconds`, and `mib` for `bytes`.
        metavar: what stands for its value in the help.
        least: the smallest number that it may be, in the unit in which it is written.
        most: the largest.
        choices: the only words that it may be.
        unset: what None as a default comes to, for the help.
    """
    about = {"name": name, "metavar": metavar, "least": least, "most": most, "choices": choices, "unset": unset}
    return dataclasses.field(default=default, metadata=about)


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What is known of one setting."""

    field: str
    """The field of the dataclass that holds its value."""

    name: str
    """Its name in a file, and behind the dashes of a flag."""

    kind: Any
    """The type of its value, or of each of them: bool, int, float, str, Path, or a class that can `parse` a text."""

    many: bool
    """Whether it is a tuple of such values."""

    default: Any
    """Its value if nothing else is said; as all values, in the unit of the field."""

    help: str
    """What it is for."""

    unit: int = 1
    """How many units of the field are one of those in which it is written: bytes are written in MiB."""

    measure: str = ""
    """What it is measured in, as it is written; empty if it is a mere number, or none."""

    least: float | None = None
    """The smallest number, as it is written."""

    most: float | None = None
    """The largest number, as it is written."""

    choices: tuple[str, ...] = ()
    """The only words that it may be; empty if any will do."""

    metavar: str | None = None
    """What stands for its value in the help."""

    unset: str = ""
    """What None as a default comes to."""

    @property
    def flag(self) -> str:
        """Its flag on the command line."""
        return f"--{self.name}"

    @property
    def variable(self) -> str:
        """Its variable of the environment."""
        return PREFIX + self.name.replace("-", "_").upper()

    @property
    def expected(self) -> str:
        """What may be written, in words."""
        if self.choices:
            return "one of " + ", ".join(self.choices)
        words = {bool: "true or false", int: "a whole number", float: "a number"}.get(self.kind, "a text")
        return words + (f" of {self.measure}" if self.measure else "") + (f", {self.bounds}" if self.bounds else "")

    @property
    def bounds(self) -> str:
        """Between what a number must be; empty if it may be any."""
        if self.least is not None and self.most is not None:
            return f"{_number(self.least)} to {_number(self.most)}"
        if self.least is not None:
            return f"{_number(self.least)} or more"
        return "" if self.most is None else f"{_number(self.most)} or less"

    @property
    def ends(self) -> str:
        """Its default, and between what it must be."""
        shown = self.unset or ("none" if self.default in {None, ()} else self.show(self.default).strip('"'))
        return f"{shown}; {self.bounds}" if self.bounds else shown

    @property
    def about(self) -> str:
        """What it is for, its default, and between what it must be."""
        return f"{self.help}  [default: {self.ends}]"

    @property
    def stands_for(self) -> str:
        """What stands for its value in the help."""
        if self.metavar or self.choices:
            return self.metavar or "|".join(self.choices)
        return self.measure.upper() or {int: "NUMBER", float: "NUMBER", Path: "PATH"}.get(self.kind, "TEXT")

    def read(self, text: str, *, origin: str) -> Any:
        """Returns the value, or one of several, that a text says; raises SettingsError naming where it came from."""
        if hasattr(self.kind, "parse"):
            return self._parsed(text, origin)
        if self.kind is Path and not text:  # which to Python is the folder that one happens to be in
            raise SettingsError(f"{origin} is empty: name a path, or leave it out")
        try:
            written = _TRUTHS[text.lower()] if self.kind is bool else self.kind(text)
        except (KeyError, ValueError):
            raise self._wrong(text, origin) from None
        return self._checked(written, text, origin)

    def take(self, value: Any, *, origin: str) -> Any:
        """Returns the value that a file of TOML says; raises SettingsError naming where it came from."""
        if self.many:
            values = value if isinstance(value, list) else [value]
            if not all(isinstance(each, str) for each in values):
                raise SettingsError(f"{origin} is {value!r}; expected a list of texts")
            return tuple(self.read(each, origin=origin) for each in values)
        if isinstance(value, str) and self.kind not in {bool, int, float}:
            return self.read(value, origin=origin)
        try:
            written = float(value) if self.kind is float and type(value) is int else value
        except OverflowError:
            raise self._wrong(value, origin) from None
        if type(written) is not self.kind:
            raise self._wrong(value, origin)
        return self._checked(written, value, origin)

    def show(self, value: Any) -> str:
        """Returns a value as it would be written in a file."""
        if self.many:
            return "[" + ", ".join(_text(each) for each in value) + "]"
        if self.kind is bool:
            return str(value).lower()
        if value is None:
            return _text(self.stands_for)
        if self.kind in {int, float}:
            return _number(value / self.unit if value % self.unit else value // self.unit)
        return _text(value)

    def _parsed(self, text: str, origin: str) -> Any:
        try:
            return self.kind.parse(text)
        except SettingsError as error:  # it speaks of the flag
            raise error if origin == self.flag else SettingsError(f"{origin}: {error.message}") from None

    def _checked(self, written: Any, came: Any, origin: str) -> Any:
        small = self.least is not None and written < self.least
        large = self.most is not None and written > self.most
        if small or large or (self.choices and written not in self.choices) or _is_endless(written):
            raise self._wrong(came, origin)
        if self.kind is Path:
            return at_home(written, origin)
        return written * self.unit if self.unit > 1 else written

    def _wrong(self, came: Any, origin: str) -> SettingsError:
        return SettingsError(f"{origin} {came!r} is not {self.expected}")


def at_home(path: Path, origin: str) -> Path:
    """Returns a path with the home that its ~ stands for; raises SettingsError naming where it came from."""
    try:
        return path.expanduser()
    except RuntimeError as error:
        raise SettingsError(f"{origin} {str(path)!r} begins with a home that is not known: {error}") from None


def settings_of(holder: type) -> tuple[Setting, ...]:
    """Returns the settings that a dataclass holds: one for each field, whose docstring says what it is for."""
    kinds = get_type_hints(holder)
    helps = _docstrings(holder)
    return tuple(_setting(field, kinds[field.name], helps.get(field.name, "")) for field in dataclasses.fields(holder))


def _setting(field: dataclasses.Field[Any], annotation: Any, text: str) -> Setting:
    more = dict(field.metadata)
    kind, many = _kind(annotation)
    name = more.pop("name", None) or field.name
    measure, unit = "", 1
    if field.name.endswith("_bytes"):
        name, measure, unit = f"{name.removesuffix('_bytes')}_mib", "MiB", MIB
    elif field.name.endswith("_seconds"):
        name, measure = name.removesuffix("_seconds"), "seconds"
    return Setting(
        field=field.name,
        name=name.replace("_", "-"),
        kind=kind,
        many=many,
        default=() if field.default is dataclasses.MISSING else field.default,
        help=text,
        measure=measure,
        unit=unit,
        **more,
    )


def _kind(annotation: Any) -> tuple[Any, bool]:
    """Returns the type of one value, and whether there may be many of them."""
    if get_origin(annotation) is tuple:
        return get_args(annotation)[0], True
    if get_origin(annotation) in {Union, types.UnionType}:
        (kind,) = [each for each in get_args(annotation) if each is not types.NoneType]
        return kind, False
    return annotation, False


def _docstrings(holder: type) -> dict[str, str]:
    """Returns the text below each field of a class: Python keeps it in the source alone."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(holder))).body[0]
    except OSError:  # there is no source on this machine: its help is the poorer for it
        return {}
    assert isinstance(tree, ast.ClassDef)  # noqa: S101 (it cannot be anything else)
    found = {}
    for field, below in itertools.pairwise(tree.body):
        match field, below:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                found[name] = " ".join(text.split())
    return found


def _number(value: float) -> str:
    """Returns a number as TOML writes it, a whole one without a point."""
    return str(int(value)) if value == int(value) else repr(value)


def _text(value: Any) -> str:
    """Returns a text as TOML writes it: as JSON, but that it has no DEL."""
    return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")


def _is_endless(value: Any) -> bool:
    return isinstance(value, float) and not math.isfinite(value)
