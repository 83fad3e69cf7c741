"""Trains a network, serves it as a user would, and looks inside it while it runs.

make demo                  the same as: python examples/digits/demo.py
make demo ARGS=--keep      leaves the server running until Ctrl-C
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

import numpy as np

import fluoroscope
from dataset import FILE, Dataset
from errors import DemoError
from interruption import InterruptedBySignal, Interruption
from place import typed
from recipe import Recipe
from scrape import Scrape
from served import COMMAND, serving
from show import Page
from tour import Tour
from training import trained

if TYPE_CHECKING:
    from served import Served

FOLDER = Path(__file__).resolve().parents[2] / ".demo"
"""Where the demo keeps what it made, for the next time."""

MODEL = "digits"

PLOTS = (
    "'activations/*' --reduce histogram",
    "'activations/*' --reduce statistics",
    "'relu:*' --reduce dead",
)
"""What the plots of the tutorial show: distributions and variances of all layers, and dead units, over all images."""


def run(folder: Path, page: Page, interruption: Interruption, *, keep: bool) -> None:
    """Runs the demo from start to end; with `keep`, until it is interrupted."""
    start = perf_counter()
    recipe = Recipe()
    trained(folder, recipe, page, interruption)
    data = Dataset.read(folder)
    with serving(MODEL, folder / MODEL, page, interruption) as server:
        with fluoroscope.Client(server.address) as client:
            tour = Tour(page=page, client=client, model=MODEL, recipe=recipe)
            image = tour.predict(data)
            np.save(folder / "digit.npy", image)
            tour.look_inside(image)
            tour.all_images(data)
            tour.metrics(Scrape.of(server.http_address))
        suggest(folder, page, server if keep else None)
        if keep:
            wait(server, page)
    page.say(
        f"The whole demo took {perf_counter() - start:.0f} s. Its server is stopped; {typed(folder)} keeps the rest."
    )


def suggest(folder: Path, page: Page, server: Served | None) -> None:
    """Prints commands to try next; with a server that goes on running, commands that ask that one."""
    page.heading("Try next")
    digit = f"image=@{typed(folder / 'digit.npy')}"
    images = typed(folder / FILE) + ":images"
    activate = f". {typed(Path(sys.executable).with_name('activate'))}"
    ask = [
        "fluoroscope models digits",
        "fluoroscope sites digits",
        f"fluoroscope predict digits {digit}",
        f"fluoroscope inspect digits {digit} 'Dense_*' --reduce statistics",
        f"fluoroscope inspect digits {digit} 'relu:*' --output {typed(folder / 'relu.npz')}",
        f"fluoroscope inspect digits {digit} Dense_4 --edit 'zero relu:3 units=2,3'",
        f"fluoroscope inspect digits {digit} 'Dense_*' --gradient logits=3 --reduce norm",
        "fluoroscope params digits 'params/*/kernel'",
        *(f"fluoroscope inspect digits --dataset {images} {plot}" for plot in PLOTS),
    ]
    if server is None:
        page.say("Start the server again, on its usual ports:")
        page.command(activate, f"{COMMAND} serve --model {MODEL}={typed(folder / MODEL)}")
        page.say("In a second terminal, ask it:")
        page.command(activate, *ask, "curl http://127.0.0.1:8501/metrics")
    else:
        page.say("The server goes on running. In a second terminal, ask it:")
        where = f"export FLUOROSCOPE_SERVER={server.address}"
        page.command(activate, where, *ask, f"curl http://{server.http_address}/metrics")


def wait(server: Served, page: Page) -> None:
    """Waits until the demo is interrupted; quotes what the server says meanwhile."""
    page.say("Ctrl-C ends it.")
    for _ in page.quoted(server.child.lines()):
        pass
    raise DemoError(f"the server ended by itself, with exit code {server.child.exit_code()}")


def main() -> int:
    """Runs the command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--keep", action="store_true", help="leave the server running until Ctrl-C")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where it keeps what it makes; .demo unless given")
    arguments = parser.parse_args()
    with Interruption() as interruption:
        page = Page(interruption)
        try:
            run(arguments.folder, page, interruption, keep=arguments.keep)
        except InterruptedBySignal as interrupted:
            page.space()
            page.say("Interrupted. Nothing is left running.")
            return interrupted.exit_code
        except (DemoError, fluoroscope.FluoroscopeError, OSError) as error:
            page.space()
            page.say(f"The demo cannot go on: {error}.")
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
