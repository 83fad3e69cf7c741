"""What tests of serving need: a model on disk and the house that looks at it, a network that doubles, a device."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from fluoroscope_server.serving import DeviceQueue
from fluoroscope_server.settings import Swap

from .doubler import Doubler
from .house import House, write_step

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator
    from pathlib import Path

    Test = Callable[[House], Coroutine[Any, Any, None]]
    Run = Callable[..., None]

WAIT = 60


@pytest.fixture
def net(tmp_path: Path) -> Path:
    """The folder of the model `net`, with step 1."""
    model = tmp_path / "models" / "net"
    write_step(model, 1)
    return model


@pytest.fixture
def run(tmp_path: Path, device: DeviceQueue) -> Run:
    """Runs a test in a house that has looked at its models once."""

    def run(test: Test, *, swap: Swap = Swap.KEEP) -> None:
        async def main() -> None:
            async with House(tmp_path / "models", device, swap=swap) as house:
                await test(house)

        asyncio.run(asyncio.wait_for(main(), WAIT))

    return run


@pytest.fixture
def network() -> Doubler:
    return Doubler()


@pytest.fixture
def queue() -> Iterator[DeviceQueue]:
    made = DeviceQueue("batches", workers=2)
    yield made
    made.close()
