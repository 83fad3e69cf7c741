"""A step copied file by file to where a server watches: it serves once it is whole, and the old one until then."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from fluoroscope_server.checkpoints import seal

from .house import House, write_step

if TYPE_CHECKING:
    from pathlib import Path

    from fluoroscope_server.serving import DeviceQueue

WAIT = 120


@pytest.mark.parametrize("sealed", [False, True], ids=["not sealed", "sealed"])
@pytest.mark.parametrize("backwards", [False, True], ids=["forwards", "backwards"])
def test_a_step_that_is_copied_while_it_is_watched(
    tmp_path: Path, device: DeviceQueue, backwards: bool, sealed: bool
) -> None:
    """The server looks, and asks the model, after each half of each file, in the order of their names or against it."""
    source, models = tmp_path / "source", tmp_path / "models"
    write_step(models / "net", 1)
    write_step(source, 2)
    if sealed:
        seal(source, 2)
    files = sorted((each for each in source.rglob("*") if each.is_file()), reverse=backwards)

    async def main() -> list[int]:
        answers = []
        async with House(models, device) as house:
            house.require_seal = sealed  # of what is loaded from now on
            for file in files:
                copy = models / "net" / file.relative_to(source)
                copy.parent.mkdir(parents=True, exist_ok=True)
                data = file.read_bytes()
                for end in (len(data) // 2, len(data)):
                    copy.write_bytes(data[:end])
                    await house.watcher.look()
                    answers.append(await house.answers())  # each with the numbers of its own version
            assert house.health == {"net": True}
        return answers

    answers = asyncio.run(asyncio.wait_for(main(), WAIT))
    assert answers == sorted(answers), "what has served does not go back"
    assert answers[0] == 1
    assert answers[-1] == 2
    assert len(answers) >= 20
