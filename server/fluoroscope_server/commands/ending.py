"""How these commands begin and end."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

import click

from fluoroscope_server.errors import FluoroscopeError

if TYPE_CHECKING:
    from collections.abc import Iterator


def without_accelerator() -> None:
    """Keeps JAX on the processor, unless the environment says otherwise: a server may have the accelerator."""
    os.environ.setdefault("JAX_PLATFORMS", "cpu")


@contextlib.contextmanager
def explained() -> Iterator[None]:
    """Ends with a message for people when something is wrong that we know of."""
    try:
        yield
    except FluoroscopeError as error:
        raise click.ClickException(error.message) from error
    except ModuleNotFoundError as error:
        message = f"{error.name} is not installed: this is the client alone; pip install 'fluoroscope[server]'"
        raise click.ClickException(message) from error
