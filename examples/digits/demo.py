"""The demo: trains a network, serves it as a user would, and looks inside it while it runs.

make demo                  or:  python examples/digits/demo.py
make demo ARGS=--keep      leaves the server running until Ctrl-C
"""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import sys
import sysconfig
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

import fluoroscope
import numpy as np
from child import running
from dataset import Dataset
from interruption import InterruptedBySignal, Interruption
from layers import Layer, measure
from recipe import Recipe
from record import NotWholeError, Record
from scrape import Scrape
from show import Page

if TYPE_CHECKING:
    from child import Child
    from fluoroscope import Activation, Client, Progress

HERE = Path(__file__).resolve().parent
FOLDER = HERE.parents[1] / ".demo"
"""Where the demo keeps what it made, for the next time."""

MARK = "made-by-make-demo.txt"
"""A file that tells a folder of the demo's from anybody else's, which it must never clear."""

MODEL = "digits"
SITES = ("Dense_*", "relu:*")
"""The output of each layer before the activation function, and after it."""


class DemoError(Exception):
    """The demo cannot go on; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Demo:
    """One run of the demo."""

    page: Page
    """Where it prints."""

    folder: Path
    """Where it keeps what it made."""

    recipe: Recipe
    """How its network is trained."""

    interruption: Interruption
    """How it is told to end."""

    def run(self, *, keep: bool) -> None:
        """Runs all of it; with `keep`, until it is interrupted."""
        self.trained()
        data = Dataset.read(self.folder)
        example = int(np.flatnonzero(data.is_test)[0])
        np.save(self.folder / "digit.npy", data.images[example])
        with ExitStack() as stack:
            server, address, metrics = self.serve(stack)
            with fluoroscope.Client(address) as client:
                self.predict(client, data, example)
                self.look_inside(client, data.images[example])
                self.all_images(client, data)
            self.metrics(metrics)
            self.next(address if keep else None, metrics)
            if keep:
                self.wait(server)

    def trained(self) -> Record:
        """Trains the network, unless it was trained before."""
        self.page.heading("A network, trained on real images")
        try:
            record = Record.read(self.folder, self.recipe)
        except NotWholeError as error:
            if (self.folder / MARK).exists():
                self.page.say(f"What is in {near(self.folder)} cannot be used: {error}. Training again.")
            self.train()
            record = Record.read(self.folder, self.recipe)
        else:
            self.page.say(f"""{near(self.folder)} has it from an earlier run, whole by its checksums: nothing to train.
                          (Delete that folder to start over.)""")
        self.page.say(f"""Test accuracy: {record.accuracy:.1%} of {self.recipe.test_images} images that it never saw in
                      training. {len(record.steps)} Orbax checkpoints: steps {", ".join(map(str, record.steps))}.""")
        return record

    def train(self) -> None:
        """Trains the network in a process of its own, as this one needs no JAX, and puts what it wrote in place."""
        self.claim()
        self.page.say("""scikit-learn ships 1,797 handwritten digits. A small Flax network (dense layers with a relu
                      between them, nothing about it prepared for being looked into) learns to read them:""")
        self.page.command(f"python {near(HERE / 'train.py')} {near(self.folder)}")
        # Trained aside and then moved: whatever interrupts it, no half of it is ever in place.
        with tempfile.TemporaryDirectory(prefix="training-", dir=self.folder) as aside:
            words = [sys.executable, str(HERE / "train.py"), aside]
            with running(words, self.interruption) as child, self.page.busy("importing JAX, reading the images ..."):
                said = list(self.quoted(child))
                if child.exit_code() != 0:
                    raise DemoError(f"the training failed: {said[-1] if said else 'it said nothing'}")
            for made in Path(aside).iterdir():
                shutil.move(made, self.folder / made.name)
        self.page.space()

    def claim(self) -> None:
        """Makes the folder, or clears away what an earlier run left there; refuses a folder of somebody else's."""
        mark = self.folder / MARK
        if self.folder.exists() and any(self.folder.iterdir()) and not mark.exists():
            raise DemoError(f"{near(self.folder)} is not empty, and not the demo's: give another --folder")
        if mark.exists():
            shutil.rmtree(self.folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        mark.write_text("What `make demo` made. It may be deleted: the next run makes it again.\n", encoding="utf-8")

    def serve(self, stack: ExitStack) -> tuple[Child, str, str]:
        """Starts the server; returns it and its two addresses. It ends with the stack."""
        self.page.heading("A server, started as you would start yours")
        words = ["serve", "--model", f"{MODEL}={near(self.folder / MODEL)}"]
        words += ["--listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0"]
        self.page.say("""No code: each checkpoint carries a JSON item `config` that says what its network is. The server
                      takes the newest step, traces the network, and compiles it for each batch size.""")
        self.page.command(shlex.join(["fluoroscope-server", *words]))
        server = stack.enter_context(running([script("fluoroscope-server"), *words], self.interruption))
        said = []
        with self.page.busy("importing JAX ..."):
            for line in self.quoted(server):
                said.append(line)
                if line.endswith(": ready"):
                    return server, word_after("gRPC on ", said), word_after("metrics on http://", said)
        raise DemoError(f"the server did not start: {said[-1] if said else 'it said nothing'}")

    def quoted(self, child: Child) -> Iterator[str]:
        """Prints what a command says, and yields it."""
        for line in child.lines():
            self.page.quote(line)
            yield line
