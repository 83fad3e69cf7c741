"""The tour of a served network: a prediction, what is inside it, every layer over all images, and the metrics."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from time import perf_counter
from typing import TYPE_CHECKING

import numpy as np

from layers import measure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    import fluoroscope
    from dataset import Dataset
    from layers import Layer
    from recipe import Recipe
    from scrape import Scrape
    from show import Page

SITES = ("Dense_*", "relu:*")
"""What the tutorial looks at: each layer before the activation function, and after it."""

CALLS = 50
"""How often the prediction is asked for, to see how long it takes."""

METHODS = {"Predict": "InferenceService", "InspectActivations": "InspectionService"}
"""The methods that the tour calls, and the services that they belong to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tour:
    """A tour of one network by one client."""

    page: Page
    """Where it is printed."""

    client: fluoroscope.Client
    """The connection to the server."""

    model: str
    """The name of the model."""

    recipe: Recipe
    """How the network was made."""

    def predict(self, data: Dataset) -> np.ndarray:
        """Predicts the test images, and draws the one that is hardest of those named rightly; returns it, `(8, 8)`."""
        self.page.heading("Predictions")
        images, labels = data.images[data.is_test], data.labels[data.is_test]
        probabilities = self._probabilities(images)
        right = probabilities.argmax(axis=1) == labels
        self.page.say(f"""The {len(images)} test images go over gRPC to the server, at most {self.recipe.buckets[-1]}
                      in a request. (On this side no JAX is imported.) It names {right.mean():.1%} of them rightly. Of
                      those, this is the one it is least sure of:""")
        hardest = int(np.where(right, probabilities.max(axis=1), 1).argmin())
        lines = [f"It is a {labels[hardest]}, the network says.", ""]
        for digit, share in enumerate(probabilities[hardest]):
            lines.append(f"{digit}  {share:6.1%}  {self.page.bar(float(share))}")
        self.page.picture(images[hardest], lines)
        seconds = [_timed(lambda: self._probabilities(images[hardest][None])) for _ in range(CALLS)]
        self.page.say(f"""Asked {CALLS} times for this one alone, it answers in {median(seconds) * 1000:.1f} ms
                      (median).""")
        return np.asarray(images[hardest])

    def look_inside(self, image: np.ndarray) -> None:
        """Streams what the network computes on its way to that prediction."""
        self.page.heading("The same prediction, seen from inside")
        self.page.say(f"""A "site" is a place in the network whose value can be read. The globs {" and ".join(SITES)}
                      name each layer before and after its relu. Each line is printed when its tensor is here:""")
        self.page.space()
        program, seconds = self._stream(image, show=True)
        self.page.space()
        self.page.say(f"""That took {seconds * 1000:.0f} ms, of which {program.compile_seconds * 1000:.0f} ms went to
                      the compiler: the network and the question became one program, which the server keeps.""")
        program, seconds = self._stream(image, show=False)
        held = "it had to be compiled again" if program.compiled else "the program was held already"
        self.page.say(f"The same question again took {seconds * 1000:.1f} ms: {held}.")

    def all_images(self, data: Dataset) -> None:
        """Prints the table of all layers over the whole data set."""
        self.page.heading("Every layer, over all images")
        batch = self.recipe.buckets[-1]
        total = len(data.images)
        self.page.say(f"""What the tutorial asks of a network. The activations of all {total:,} images are streamed here
                      in batches of {batch}; one tensor is held at a time. A unit is dead when it is zero on every one
                      of the images.""")
        with self.page.busy("streaming ...") as show:
            for done, found in measure(self.client, self.model, data.images, sites=SITES, batch_size=batch):
                show(f"streaming: {done:,} of {total:,} images")
                layers = found
        self._table(list(layers.values()))
        hidden = sum(self.recipe.hidden_sizes)
        dead = sum(layer.dead_units for layer in layers.values())
        self.page.say(f"{dead} of the {hidden:,} hidden units are dead: they cost time and memory, and say nothing.")

    def metrics(self, scrape: Scrape) -> None:
        """Prints how long the calls took, stage by stage, as Prometheus would read it."""
        self.page.heading("What Prometheus sees")
        self.page.say("""The server counts its calls and times every stage of them. The means of what you just saw, in
                      milliseconds:""")
        stages = {method: scrape.stages(method) for method in METHODS}
        rows = [
            (stage, *(_milliseconds(times.get(stage)) for times in stages.values()))
            for stage in _in_order(stages.values())
        ]
        answered = [f"{_handled(scrape, method):,.0f}" for method in METHODS]
        self.page.table(("stage", *METHODS), [*rows, ("calls answered", *answered)], numbers=tuple(METHODS))
        self.page.say("Three of the lines behind it, as they are:")
        self.page.space()
        raw = [
            *scrape.named("fluoroscope_stage_seconds_sum", method="Predict", stage="compute"),
            *scrape.named("fluoroscope_stage_seconds_count", method="Predict", stage="compute"),
            *scrape.named("fluoroscope_program_requests_total", result="held"),
        ]
        for sample in raw:
            self.page.quote(sample.line)

    def _probabilities(self, images: np.ndarray) -> np.ndarray:
        """Returns the probability of each digit for each image, `(images, 10)`."""
        most = self.recipe.buckets[-1]
        parts = [images[start : start + most] for start in range(0, len(images), most)]
        answers = [self.client.predict(self.model, {"image": part})["logits"] for part in parts]
        logits = np.concatenate(answers).astype(np.float64)
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
        return np.asarray(powers / powers.sum(axis=1, keepdims=True))

    def _stream(self, image: np.ndarray, *, show: bool) -> tuple[fluoroscope.Program, float]:
        """Streams the activations of one image; returns the program that made them, and the seconds it took."""
        seen: list[fluoroscope.Progress] = []
        columns = ("site", "shape", "mean", "zero", "arrived after")
        widths = (10, 9, -8, -6, -13)
        start = perf_counter()
        stream = self.client.stream(self.model, {"image": image[None]}, sites=SITES, progress=seen.append)
        if show:
            self.page.row(columns, widths)
        for activation in stream:
            after = perf_counter() - start
            array = activation.array
            if show:
                shape = " x ".join(map(str, activation.shape))
                cells = (f"{array.mean():.3f}", f"{(array == 0).mean():.0%}", f"{after * 1000:.1f} ms")
                self.page.row((activation.site, shape, *cells), widths)
        return seen[-1].program, perf_counter() - start

    def _table(self, layers: list[Layer]) -> None:
        columns = ("site", "value", "units", "mean", "variance", "zero", "dead units")
        self.page.table(columns, map(_cells, layers), numbers=columns[2:])


def _cells(layer: Layer) -> tuple[str, ...]:
    is_after = layer.site.startswith("relu")
    return (
        layer.site,
        "post-activation" if is_after else "pre-activation",
        str(layer.units),
        f"{layer.mean:.4f}",
        f"{layer.variance:.4f}",
        f"{layer.zero_fraction:.1%}",
        str(layer.dead_units),
    )


def _timed(work: Callable[[], object]) -> float:
    start = perf_counter()
    work()
    return perf_counter() - start


def _milliseconds(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds * 1000:.3f}"


def _in_order(stages: Iterable[Iterable[str]]) -> list[str]:
    """Returns the stages of several methods once each, in an order that suits all of them."""
    found: list[str] = []
    for each in stages:
        last = -1
        for stage in each:
            if stage not in found:
                found.insert(last + 1, stage)
            last = found.index(stage)
    return found


def _handled(scrape: Scrape, method: str) -> float:
    service = f"fluoroscope.v1.{METHODS[method]}"
    labels = {"grpc_service": service, "grpc_method": method, "grpc_code": "OK"}
    return sum(sample.value for sample in scrape.named("grpc_server_handled_total", **labels))
