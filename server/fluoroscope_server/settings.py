"""What the operator sets: where to listen, what to serve, and the limits."""

from __future__ import annotations

import os
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from fluoroscope_server.errors import SettingsError

MIB = 1 << 20


class Swap(StrEnum):
    """What to do when a new version of a model does not fit into memory beside the old one."""

    KEEP = "keep"
    """The old one goes on serving."""

    STOP_THEN_LOAD = "stop-then-load"
    """Stop the old one, then load the new one; nothing serves meanwhile. If that fails, load the old one again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSource:
    """Where one model comes from."""

    name: str
    """The name that requests use."""

    path: Path
    """The folder of its Orbax checkpoint, or of its series of checkpoints."""

    family: str | None = None
    """The family, if the operator names it; otherwise the model's own config does."""

    @classmethod
    def parse(cls, text: str) -> ModelSource:
        """Reads `NAME=PATH[,family=FAMILY]`; raises SettingsError."""
        name, equals, rest = text.partition("=")
        path, *options = rest.split(",family=")
        if not name or not equals or not path or len(options) > 1 or "" in options:
            raise SettingsError(f"--model {text!r} is not NAME=PATH or NAME=PATH,family=PACKAGE.MODULE:CALLABLE")
        check_name("model", name)
        return cls(name=name, path=Path(path).expanduser(), family=options[0] if options else None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All settings of a server."""

    models: tuple[ModelSource, ...]
    """What to serve."""

    repository: Path | None = None
    """A folder with a folder for each model, whose models and steps come and go while the server runs."""

    watch: bool = False
    """Whether the steps of `models`, too, are watched while the server runs."""

    poll_seconds: float = 5.0
    """How often what is watched is looked at."""

    swap: Swap = Swap.KEEP
    """What to do when a new version does not fit into memory beside the old one."""

    listen: str = "127.0.0.1:8500"
    """Where gRPC listens: HOST:PORT, or unix:PATH. Port 0 picks a free one."""

    http_listen: str = "127.0.0.1:8501"
    """Where /metrics, /healthz and /readyz are: HOST:PORT. Port 0 picks a free one."""

    max_request_bytes: int = 64 * MIB
    """The largest request message."""

    max_inspection_bytes: int = 1024 * MIB
    """The most bytes of tensors that one inspection may ask for."""

    max_programs: int = 256
    """How many compiled inspections each model holds, besides its presets."""

    max_compiles: int = 32
    """How many programs of each model may be compiled or wait for that at once."""

    compile_cache: Path | None = None
    """The folder where compiled programs are kept for the next start; None keeps none."""

    compile_cache_bytes: int = 2048 * MIB
    """How many bytes of programs that folder may hold."""

    grace_seconds: float = 30.0
    """How long calls under way may go on after SIGTERM."""

    def __post_init__(self) -> None:
        """Checks what no single setting can; raises SettingsError."""
        if self.poll_seconds <= 0:
            raise SettingsError(f"the models cannot be looked at every {self.poll_seconds:g} seconds")
        names = [source.name for source in self.models]
        for name in names:
            if names.count(name) > 1:
                raise SettingsError(f"two models are named {name!r}; give each a name of its own")


def check_name(what: str, name: str) -> None:
    """Refuses a name that cannot stand in a metric, a path and a command line alike; raises SettingsError."""
    if not name or not all(letter.isalnum() or letter in "._-" for letter in name):
        raise SettingsError(f"{what} name {name!r} may hold letters, digits, '.', '_' and '-' only")


def default_compile_cache() -> Path:
    """Returns this user's folder for compiled programs, by the rules of the XDG base directories."""
    root = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(root) if Path(root).is_absolute() else Path("~/.cache").expanduser()) / "fluoroscope" / "programs"


def split_address(address: str) -> tuple[str, int]:
    """Returns the host and port of `HOST:PORT`, `[::1]:PORT` or `:PORT`; raises SettingsError."""
    host, colon, port = address.rpartition(":")
    if not colon or not (port.isascii() and port.isdigit()) or int(port) > 65535:
        raise SettingsError(f"address {address!r} is not HOST:PORT with a port from 0 to 65535")
    return host.strip("[]"), int(port)
