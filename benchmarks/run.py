"""Measures fluoroscope beside bare grpcio servers over the same jitted network, and prints the ratios.

All servers run at the same time and are measured in turn, round after round, so that a slow minute of the machine
slows them all. There are several copies of each, since a process is faster or slower by where its memory happens to
lie; each figure is the median of all rounds. Run by `make bench`.
"""

from __future__ import annotations

import argparse
import contextlib
import platform
import tempfile
from pathlib import Path

import numpy as np

import depth
import in_process
import keys
import load
import networks
import overload
import restart
import servers
import staged
import streams
from fluoroscope.v1.inference_pb2 import PredictRequest
from fluoroscope.wire import encode_tensor
from row import Row, Samples

DOCUMENT = Path(__file__).resolve().parent.parent / "docs" / "benchmarks.md"
PREDICT = "/fluoroscope.v1.InferenceService/Predict"
BATCHES = (1, 8, 64)
IN_FLIGHT = (16, 64)
RATE_TARGETS = {(16, 1): "at least 1.00", (16, 8): "at least 1.20", (64, 1): "at least 1.20", (64, 8): "at least 1.20"}

Addresses = dict[str, str]
"""Where one copy of each server listens."""


def predict_request(rows: int) -> bytes:
    """Returns a serialized request of so many random images."""
    image = np.random.default_rng(rows).random((rows, *networks.IMAGE), np.float32)
    return PredictRequest(model="digits", inputs={"image": encode_tensor(image)}).SerializeToString()


def measure_predict(copies: list[Addresses], *, rounds: int, seconds: float) -> list[Row]:
    """Compares `Predict` with the faster of the two bare servers."""
    rows = []
    methods = {name: PREDICT if name == "fluoroscope" else "/bare.Bare/Predict" for name in copies[0]}
    for batch in BATCHES:
        request = predict_request(batch)
        p50, p99, rates = Samples(), Samples(), {in_flight: Samples() for in_flight in IN_FLIGHT}
        for addresses in copies * rounds:
            for name, address in addresses.items():
                times = load.latencies(address, methods[name], request, seconds=seconds)
                p50.add(name, float(np.percentile(times, 50)))
                p99.add(name, float(np.percentile(times, 99)))
                for in_flight, rate in rates.items():
                    figure = load.throughput(address, methods[name], request, in_flight=in_flight, seconds=seconds)
                    rate.add(name, figure)
        rows += [_latency(f"Predict p50, one client, batch {batch}", p50, "at most 1.15")]
        rows += [_latency(f"Predict p99, one client, batch {batch}", p99, "stated")]
        for in_flight, rate in rates.items():
            target = RATE_TARGETS.get((in_flight, batch), "at least 0.90")
            rows += [_rate(f"Predict, {in_flight} in flight, batch {batch}", rate, "requests/s", target)]
    return rows


def _latency(what: str, samples: Samples, target: str) -> Row:
    ours = samples.median("fluoroscope")
    reference = min((name for name in samples.values if name != "fluoroscope"), key=samples.median)
    theirs = samples.median(reference)
    return Row(
        what=what,
        ours=f"{1e3 * ours:.2f} ms",
        theirs=f"{1e3 * theirs:.2f} ms ({reference})",
        ratio=ours / theirs,
        target=target,
    )


def _rate(what: str, samples: Samples, unit: str, target: str) -> Row:
    reference = max((name for name in samples.values if name != "fluoroscope"), key=samples.median)
    return samples.rate(what, unit, target, ours="fluoroscope", theirs=reference)


def measure_captures(*, rounds: int) -> list[Row]:
    """Compares captures with a plain forward, both in this process."""
    return [
        Row(
            what=f"in process, batch 64: {each.what}",
            ours=f"{1e3 * each.seconds:.2f} ms",
            theirs=f"{1e3 * each.forward_seconds:.2f} ms (plain forward)",
            ratio=each.seconds / each.forward_seconds,
            target=each.target,
        )
        for each in in_process.measure(rounds=10 * rounds)
    ]


def measure_restart(model: str, *, rounds: int) -> list[Row]:
    """Compares a start that finds its programs compiled with one that must compile them."""
    seconds = Samples()
    for _ in range(rounds):
        cold, warm = restart.measure(model)
        seconds.add("cold", cold)
        seconds.add("warm", warm)
    cold, warm = seconds.median("cold"), seconds.median("warm")
    what = "from start to ready, with a warm compile cache"
    return [Row(what=what, ours=f"{warm:.1f} s", theirs=f"{cold:.1f} s (cold)", ratio=warm / cold, target="under 0.50")]


def start(stack: contextlib.ExitStack, *models: str) -> Addresses:
    """Starts a copy of each server, to be stopped by the stack."""
    addresses = {"fluoroscope": stack.enter_context(servers.fluoroscope(*models))}
    return addresses | {kind: stack.enter_context(servers.bare(kind)) for kind in ("asyncio", "threaded")}


def table(rows: list[Row]) -> str:
    """Returns the rows as a Markdown table."""
    lines = ["| ratio | target | what | fluoroscope | reference |", "| ---: | --- | --- | ---: | ---: |"]
    lines += [f"| **{row.ratio:.2f}** | {row.target} | {row.what} | {row.ours} | {row.theirs} |" for row in rows]
    return "\n".join(lines)


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=2, help="how often to measure each copy (default 2)")
    parser.add_argument("--seconds", type=float, default=2.0, help="how long each time (default 2)")
    parser.add_argument("--copies", type=int, default=3, help="how many processes of each server (default 3)")
    parser.add_argument(
        "--only",
        choices=("predict", "stream", "captures", "depth", "staged", "restart", "keys", "overload"),
        help="measure this alone",
    )
    parser.add_argument(
        "--overload-seconds", type=float, default=20.0, help="how long to ask more than can be answered (default 20)"
    )
    parser.add_argument("--write", action="store_true", help=f"add the table to docs/{DOCUMENT.name}")
    arguments = parser.parse_args()
    rows = measure_captures(rounds=arguments.rounds) if arguments.only in {None, "captures"} else []
    if arguments.only in {None, "depth"}:
        rows += depth.measure(rounds=arguments.rounds)
    if arguments.only in {None, "staged"}:
        with tempfile.TemporaryDirectory() as folder:
            rows = staged.measure(f"blocks={networks.save_blocks(Path(folder))}", rounds=arguments.rounds) + rows
    if arguments.only in {None, "overload"}:
        with tempfile.TemporaryDirectory() as folder:
            rows += overload.measure(Path(folder), seconds=arguments.overload_seconds)
    if arguments.only in {None, "restart"}:
        with tempfile.TemporaryDirectory() as folder:
            rows += measure_restart(f"deep={networks.save_deep(Path(folder))}", rounds=arguments.rounds)
    if arguments.only in {None, "keys"}:
        with tempfile.TemporaryDirectory() as folder:
            rows += keys.measure(
                f"digits={networks.save_digits(Path(folder))}",
                predict_request(1),
                Path(folder),
                copies=arguments.copies,
                rounds=arguments.rounds,
                seconds=arguments.seconds,
            )
    if arguments.only in {None, "predict", "stream"}:
        with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
            models = (
                f"digits={networks.save_digits(Path(folder))}",
                f"wide={networks.save_wide(Path(folder))}",
            )
            copies = [start(stack, *models) for _ in range(arguments.copies)]
            if arguments.only in {None, "stream"}:
                rows = streams.measure(copies, rounds=arguments.rounds) + rows
            if arguments.only in {None, "predict"}:
                rows = measure_predict(copies, rounds=arguments.rounds, seconds=arguments.seconds) + rows
    report = (
        f"{in_process.machine()}; {platform.python_implementation()} {platform.python_version()}\n\n{table(rows)}\n"
    )
    print(report)
    if arguments.write:
        DOCUMENT.write_text(f"{DOCUMENT.read_text().rstrip()}\n\n## {report}")


if __name__ == "__main__":
    main()
