"""The server of the demo: the command that a user would type, as long as a block lasts."""

from __future__ import annotations

import shlex
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from child import running
from errors import DemoError
from place import near

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from child import Child
    from interruption import Interruption
    from show import Page

COMMAND = "fluoroscope-server"


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """A server that is ready."""

    child: Child
    """Its process."""

    address: str
    """Where it speaks gRPC: `HOST:PORT`."""

    http_address: str
    """Where its metrics are: `HOST:PORT`."""


@contextmanager
def serving(name: str, checkpoints: Path, page: Page, interruption: Interruption) -> Iterator[Served]:
    """Starts a server of one model, waits until it is ready, and stops it when the block ends.

    Raises:
        DemoError: it did not become ready.
    """
    page.heading("A server, started as you would start yours")
    page.say("""No code is needed: each checkpoint has a JSON item `config` that says what its network is. The server
             takes the newest step, finds every place inside the network whose value it can show, and compiles the
             network for each batch size. Port 0 stands for any free one.""")
    what = ["serve", "--model", f"{name}={near(checkpoints)}"]
    where = ["--listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0"]
    page.command(f"{COMMAND} {shlex.join(what)} \\", f"    {shlex.join(where)}")
    command = str(Path(sys.executable).with_name(COMMAND))
    with running([command, *what, *where], interruption) as child:
        said = _until_ready(child, page)
        yield Served(
            child=child,
            address=_word_after("gRPC on ", said),
            http_address=_word_after("metrics on http://", said).removesuffix("/metrics"),
        )


def _until_ready(child: Child, page: Page) -> list[str]:
    said: list[str] = []
    with page.busy("starting; to import JAX takes a few seconds ..."):
        for line in page.quoted(child.lines()):
            said.append(line)
            if line.endswith(": ready"):
                return said
    raise DemoError(f"the server did not start: {said[-1] if said else 'it said nothing'}")


def _word_after(words: str, said: Sequence[str]) -> str:
    """Returns the rest of the line that has these words."""
    return next(line.partition(words)[2] for line in said if words in line)
