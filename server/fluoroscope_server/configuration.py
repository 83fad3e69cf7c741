"""The configuration: what flags, the environment and a file say, put together."""

from __future__ import annotations

import re
import shlex
import textwrap
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fluoroscope_server.errors import SettingsError, nearest
from fluoroscope_server.setting import PREFIX, at_home, settings_of
from fluoroscope_server.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from fluoroscope_server.setting import Setting

SETTINGS = settings_of(Settings)
"""Every setting of the server, in the order of `Settings`."""

CONFIG = f"{PREFIX}CONFIG"
"""The variable that names a file of settings."""

WIDTH = 98
"""How long a line of a comment may be."""

OTHERS = {
    "FLUOROSCOPE_SERVER",
    "FLUOROSCOPE_TOKEN",
    "FLUOROSCOPE_TOKEN_FILE",
    "FLUOROSCOPE_ROOT_CERTIFICATES",
    "FLUOROSCOPE_CLIENT_CERTIFICATE",
    "FLUOROSCOPE_CLIENT_KEY",
}
"""Variables of the client: they may be there too."""

_SERVICE = re.compile(r"FLUOROSCOPE_(\w+_)?(SERVICE_(HOST|PORT(_\w+)?)|PORT(_\d+_\w+)?)")
"""What Kubernetes tells each container about a Service whose name begins with `fluoroscope`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """The settings of one server, and who chose them."""

    settings: Settings
    """The settings."""

    origins: Mapping[str, str]
    """Where each setting that is not the default came from, by its field: a flag, a variable, or a file."""

    @classmethod
    def read(
        cls, flags: Mapping[str, Any], environment: Mapping[str, str], *, file: Path | None = None
    ) -> Configuration:
        """Puts together what was said: a flag comes before the environment, and that before a file.

        Args:
            flags: the text of each flag that was given, by its setting's field; a tuple of texts, or a bool, for
                settings that are such.
            environment: the variables of the environment.
            file: a file of TOML; without it, the one that the environment names, if it does.

        Raises:
            SettingsError: a name is unknown, or a value is not what its setting may be.
        """
        if file is None and environment.get(CONFIG):
            file = at_home(Path(environment[CONFIG]), CONFIG)
        values: dict[str, Any] = {}
        origins: dict[str, str] = {}
        sources = (_of_file(file), _of_environment(environment), _of_flags(flags))
        for each, value, origin in (found for source in sources for found in source):
            values[each.field], origins[each.field] = value, origin
        return cls(settings=Settings(**{"models": (), **values}), origins=origins)

    def lines(self) -> list[str]:
        """Returns what was chosen, and where: a line for each setting that is not left alone."""
        chosen = [each for each in SETTINGS if each.field in self.origins]
        return [f"{each.name} = {self._shown(each)} ({self.origins[each.field]})" for each in chosen]

    def document(self) -> str:
        """Returns all settings as a file of TOML; those that are left alone are comments."""
        parts = []
        for each in SETTINGS:
            about = textwrap.indent(textwrap.fill(each.about, WIDTH), "# ")
            line = f"{each.name} = {self._shown(each)}"
            origin = self.origins.get(each.field)
            parts.append(f"{about}\n# {line}\n" if origin is None else f"{about}\n{line}  # {origin}\n")
        return "\n".join(parts)

    def _shown(self, each: Setting) -> str:
        return each.show(getattr(self.settings, each.field))


def _of_file(path: Path | None) -> Iterable[tuple[Setting, Any, str]]:
    if path is None:
        return
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"the file of settings {path} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise SettingsError(f"the file of settings {path} is no TOML: {error}") from error
    known = {each.name: each for each in SETTINGS}
    for name, value in content.items():
        if name not in known:
            raise SettingsError(f"{path}: there is no setting {name!r}; nearest: {nearest(name, known)}")
        yield known[name], known[name].take(value, origin=f"{path}: {name}"), str(path)


def _of_environment(environment: Mapping[str, str]) -> Iterable[tuple[Setting, Any, str]]:
    known = {each.variable: each for each in SETTINGS}
    for name, text in sorted(environment.items()):
        if not name.startswith(PREFIX) or name in {CONFIG, *OTHERS} or _SERVICE.fullmatch(name):
            continue
        if name not in known:
            raise SettingsError(
                f"the environment has {name}, and there is no such setting; nearest: {nearest(name, [*known, CONFIG])}"
            )
        each = known[name]
        if each.many:
            try:
                texts = shlex.split(text)  # as on a command line: quotes keep blanks together
            except ValueError as error:
                raise SettingsError(f"{name} cannot be split into words: {error}") from error
            yield each, tuple(each.read(word, origin=name) for word in texts), name
        else:
            yield each, each.read(text, origin=name), name


def _of_flags(flags: Mapping[str, Any]) -> Iterable[tuple[Setting, Any, str]]:
    for each in SETTINGS:
        given = flags.get(each.field)
        if given is None or given == ():
            continue
        if isinstance(given, bool):
            yield each, given, each.flag if given else f"--no-{each.name}"
        elif each.many:
            yield each, tuple(each.read(text, origin=each.flag) for text in given), each.flag
        else:
            yield each, each.read(given, origin=each.flag), each.flag
