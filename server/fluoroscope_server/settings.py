"""What the operator sets: where to listen, what to serve, and the limits."""

from __future__ import annotations

import os
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from fluoroscope_server.errors import SettingsError, quoted
from fluoroscope_server.setting import MIB, at_home, setting

MOST_COUNT = 2_000_000_000
"""How many of something gRPC can be told: it takes 32 bits, with a sign."""

MOST_SECONDS = 2_000_000
"""How long a time gRPC can be told: it takes the milliseconds in as many bits."""


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
        return cls(name=name, path=at_home(Path(path), "--model"), family=options[0] if options else None)

    def __str__(self) -> str:
        return f"{self.name}={self.path}" + ("" if self.family is None else f",family={self.family}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All settings of a server.

    Each field is a flag, a variable of the environment and a key of the file of settings at once, see `Setting`; its
    docstring is their help. They are printed when the server starts, so none is a secret: files hold those.
    """

    models: tuple[ModelSource, ...] = setting((), name="model", metavar="NAME=PATH[,family=FAMILY]")
    """A model to serve: its name, and the folder of its Orbax checkpoint, or of a series of them, of which the newest
    is taken. What the network is, its JSON item 'config' says, or a model.toml in that folder. FAMILY overrides: a
    builtin, or PACKAGE.MODULE:CALLABLE. May be given several times."""

    repository: Path | None = setting(None, metavar="DIR")
    """A folder of models: each folder in it is one, as for --model, under its own name. New steps are served as they
    are committed, and models come and go with their folders."""

    watch: bool = setting(False)
    """Serve new steps of each --model, too, as they are committed."""

    poll_seconds: float = setting(5.0, least=0.05)
    """How often to look for new steps and models."""

    swap: Swap = setting(Swap.KEEP, choices=tuple(Swap))
    """What to do with a new step that does not fit into memory beside the old one: keep the old, or stop that first,
    and load it again if the new one fails. A model.toml may say it for its model."""

    listen: str = setting("127.0.0.1:8500", metavar="HOST:PORT")
    """Where gRPC listens; unix:PATH too. Port 0 picks a free one."""

    http_listen: str = setting("127.0.0.1:8501", metavar="HOST:PORT")
    """Where /metrics, /healthz and /readyz are. Port 0 picks a free one."""

    max_request_bytes: int = setting(64 * MIB, least=1, most=2047)
    """The largest request message."""

    max_inspection_bytes: int = setting(1024 * MIB, least=1)
    """The most that one inspection may send."""

    max_answer_bytes: int = setting(1024 * MIB, least=1, most=2047)
    """The most that an answer of one message may have: of a prediction, or of an inspection through ModelInfer."""

    max_results: int = setting(10_000, least=1, most=20_000)
    """How many results one inspection may have: its sites, times what is done to each."""

    max_rows: int = setting(65_536, least=1)
    """How many rows one request may have, besides what a model's largest bucket allows."""

    max_queue: int = setting(1024, least=1)
    """How many predictions of each model may wait for the device. Take what the model answers in the longest time that
    anybody should wait."""

    max_delay_seconds: float = setting(0.0, least=0)
    """How long a prediction that finds the device free waits for others to go with; `max_delay` in a model's config
    overrides it. What waits while the device is busy goes together in any case."""

    max_calls: int = setting(4096, least=1)
    """How many calls may be open at once."""

    max_calls_per_client: int = setting(1024, least=1)
    """How many of them one client may have: one token or one address, which behind a proxy is all who come through
    it."""

    max_streams: int = setting(128, least=1)
    """How many inspections may be open at once, and streams of predictions with them."""

    max_streams_per_client: int = setting(64, least=1)
    """How many of them one client may have."""

    max_watches: int = setting(4096, least=1)
    """How many streams of health and of reflection may be open at once; calls and inspections do not count here, nor
    these there."""

    max_watches_per_client: int = setting(1024, least=1)
    """How many of them one client may have."""

    max_open_bytes: int = setting(2048 * MIB, least=1)
    """How much the requests that are being answered may have together, and the inspections that go out as one message;
    one that comes alone is always let in."""

    max_connections: int = setting(8192, least=1, most=MOST_COUNT)
    """How many connections may be open at once; older versions of gRPC do not bound them."""

    max_calls_per_connection: int = setting(1024, least=1, most=MOST_COUNT)
    """How many calls one connection may have open; further ones wait on the client's side."""

    max_connection_idle_seconds: float = setting(3600.0, least=0, most=MOST_SECONDS)
    """How long a connection may have no call before it is closed; 0 keeps it."""

    max_connection_age_seconds: float = setting(0.0, least=0, most=MOST_SECONDS)
    """How long a connection may be used, so that clients behind a balancer spread anew; its calls are finished. 0
    lets it be used for ever."""

    keepalive_seconds: float = setting(60.0, least=1, most=MOST_SECONDS)
    """After how much silence a client is asked whether it is still there."""

    keepalive_timeout_seconds: float = setting(20.0, least=0.1, most=MOST_SECONDS)
    """How long it may take to answer before it is taken for gone, with all its calls."""

    min_ping_seconds: float = setting(10.0, least=0, most=MOST_SECONDS)
    """How often a client may ask the same; one that asks more often is disconnected."""

    max_programs: int = setting(256, least=1)
    """How many compiled inspections each version of a model holds, besides its presets."""

    max_compiles: int = setting(32, least=1)
    """How many inspections and comparisons of each version of a model may be compiled or wait for that at once."""

    compile_cache: Path | None = setting(
        None, metavar="DIR", unset="fluoroscope/programs in $XDG_CACHE_HOME or ~/.cache"
    )
    """Where compiled programs are kept, so that the next start is quick; 'off' keeps none. Whoever can write there
    runs code in this server: it must be this user's own."""

    compile_cache_bytes: int = setting(2048 * MIB, least=1)
    """How much that folder may hold; what was not used for longest goes."""

    grace_seconds: float = setting(30.0, least=0)
    """How long calls under way may go on after SIGTERM, and how long one that nobody reads may hold up a version that
    was unloaded."""

    drain_delay_seconds: float = setting(0.0, least=0)
    """How long new calls are still answered after SIGTERM, not ready any more, so that balancers notice first."""

    log_format: str = setting("text", choices=("text", "json"))
    """How the log is written: for people, or as an object of JSON on each line."""

    log_level: str = setting("info", choices=("debug", "info", "warning", "error"))
    """The least that is written of the server's own events."""

    log_calls: str = setting("failed", choices=("none", "failed", "all"))
    """Which calls have a line in the log, at the level info; those that the server itself is at fault for always do."""

    tls_certificate: Path | None = setting(None, metavar="FILE", unset="no TLS")
    """Encrypt gRPC, and show this certificate (PEM, its chain behind it). Read again when it changes."""

    tls_key: Path | None = setting(None, metavar="FILE", unset="none")
    """The private key of that certificate (PEM, without a passphrase)."""

    tls_client_ca: Path | None = setting(None, metavar="FILE", unset="no client shows a certificate")
    """Let only clients in whose certificate one of these authorities (PEM) has signed."""

    tokens: Path | None = setting(None, metavar="FILE", unset="nobody is asked who they are")
    """Let only clients in that show a token of which this file has the hash; `fluoroscope-server token` makes them.
    Read again when it changes."""

    allow_insecure_tokens: bool = setting(False)
    """Take tokens from other machines without TLS: right only where a proxy in front encrypts."""

    require_seal: bool = setting(False)
    """Refuse checkpoints that were not sealed with `fluoroscope-server seal`."""

    def __post_init__(self) -> None:
        """Checks what no single setting can; raises SettingsError."""
        names = [source.name for source in self.models]
        for name in names:
            if names.count(name) > 1:
                raise SettingsError(f"two models are named {name!r}; give each a name of its own")


MOST_LETTERS = 200
"""How long the name of a model or of a label may be: a file system takes no more than 255 bytes."""


def check_name(what: str, name: str) -> None:
    """Refuses a name that cannot stand in a metric, a path and a command line alike; raises SettingsError."""
    if len(name) > MOST_LETTERS:
        raise SettingsError(f"{what} name {quoted(name)} has {len(name):,} letters; the most are {MOST_LETTERS}")
    if not name or not all(letter.isalnum() or letter in "._-" for letter in name):
        raise SettingsError(f"{what} name {name!r} may hold letters, digits, '.', '_' and '-' only")


def default_compile_cache() -> Path:
    """Returns this user's folder for compiled programs, by the rules of the XDG base directories.

    Raises:
        SettingsError: this user has no home.
    """
    root = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return (root if root.is_absolute() else at_home(Path("~/.cache"), "the usual folder")) / "fluoroscope" / "programs"


def split_address(address: str) -> tuple[str, int]:
    """Returns the host and port of `HOST:PORT`, `[::1]:PORT` or `:PORT`; raises SettingsError."""
    host, colon, port = address.rpartition(":")
    if not colon or not (port.isascii() and port.isdigit()) or int(port) > 65535:
        raise SettingsError(f"address {address!r} is not HOST:PORT with a port from 0 to 65535")
    if "/" in host:
        bare = address.rpartition("/")[2]
        raise SettingsError(f"address {address!r} is not HOST:PORT: write {bare!r}, without a scheme")
    return host.strip("[]"), int(port)
