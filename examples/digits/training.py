"""Gets the demo its trained network: from an earlier run, or by training it."""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from child import running
from errors import DemoError
from place import typed
from record import NotWholeError, Record

if TYPE_CHECKING:
    from interruption import Interruption
    from recipe import Recipe
    from show import Page

SCRIPT = Path(__file__).resolve().with_name("train.py")

MARK = "made-by-make-demo.txt"
"""A file that tells a folder of the demo's from anybody else's, which it must never clear."""


def trained(folder: Path, recipe: Recipe, page: Page, interruption: Interruption) -> Record:
    """Returns the record of a folder that holds what the recipe makes; trains if it does not yet.

    Raises:
        DemoError: the folder is somebody else's, or the training failed.
    """
    page.heading("A network, trained on real images")
    try:
        record = Record.read(folder, recipe)
    except NotWholeError as error:
        if (folder / MARK).exists():
            page.say(f"What an earlier run left in {typed(folder)} is of no use: {error}. Training again.")
        record = _train(folder, recipe, page, interruption)
    else:
        page.say(f"""{typed(folder)} has it from an earlier run, whole by its checksums, so there is nothing to train.
                 (To start over, delete that folder.)""")
    page.say(f"""It names {record.accuracy:.1%} of the {recipe.test_images} test images rightly; training never saw
             them. {len(record.steps)} Orbax checkpoints, as a CheckpointManager writes them, are in
             {typed(folder / "digits")}.""")
    return record


def _train(folder: Path, recipe: Recipe, page: Page, interruption: Interruption) -> Record:
    """Trains in a process of its own, as this one has no need of JAX, and puts what it wrote in place."""
    _claim(folder)
    page.say("""scikit-learn ships 1,797 handwritten digits. A Flax network learns to read them: dense layers, a relu
             after each, and nothing in it that was prepared for being looked into.""")
    page.command(f"python {typed(SCRIPT)} {typed(folder)}")
    # Trained aside and moved when it is whole; the record, by which an end is known, goes last.
    with tempfile.TemporaryDirectory(prefix="training-", dir=folder) as aside:
        with (
            page.busy("starting; to import JAX takes a few seconds ..."),
            running([sys.executable, str(SCRIPT), aside], interruption) as child,
        ):
            said = list(page.quoted(child.lines()))
            if child.exit_code() != 0:
                raise DemoError(f"the training failed: {said[-1] if said else 'it said nothing'}")
        for name in ("digits", "images.npz", "trained.json"):
            shutil.move(Path(aside) / name, folder / name)
    page.space()
    try:
        return Record.read(folder, recipe)
    except NotWholeError as error:
        raise DemoError(f"what the training just wrote is not whole: {error}; is the disk full?") from error


def _claim(folder: Path) -> None:
    """Makes the folder, or clears away what an earlier run left there; refuses a folder of somebody else's."""
    mark = folder / MARK
    if mark.exists():
        shutil.rmtree(folder)
    elif folder.exists() and any(folder.iterdir()):
        raise DemoError(f"{typed(folder)} is not empty, and not the demo's: delete it, or give another --folder")
    folder.mkdir(parents=True, exist_ok=True)
    mark.write_text("What `make demo` made. It may be deleted: the next run makes it again.\n", encoding="utf-8")
