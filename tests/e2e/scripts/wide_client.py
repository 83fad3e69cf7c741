"""A client on a machine without JAX: receives a large activation set, and says what it cost.

    wide_client.py collect|stream|stall TARGET SITES

`stall` reads the first value, says so, and reads on when its standard input is closed.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

ABSENT = {"jax", "jaxlib", "flax", "orbax", "prometheus_client", "fluoroscope_server"}


class Absent:
    """Makes packages as good as not installed."""

    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None = None, target: object = None) -> None:  # noqa: ARG004 (the protocol of importers)
        if name.partition(".")[0] in ABSENT:
            raise ModuleNotFoundError(f"No module named {name!r}, for this test")


sys.meta_path.insert(0, Absent)

import numpy as np  # noqa: E402 (without what is absent; here and below)
from xxhash import xxh3_64_hexdigest  # noqa: E402

import fluoroscope  # noqa: E402

STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
ROWS, FEATURES = 256, 6


def memory(field: str) -> int:
    found = re.search(rf"{field}:\s+(\d+) kB", STATUS.read_text())
    assert found
    return int(found[1]) << 10


def digest(activation: fluoroscope.Activation) -> list[Any]:
    array = activation.array
    assert array is not None
    return [xxh3_64_hexdigest(array.data), array.dtype.name, array.shape, array.nbytes]


def say(what: object) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


def collect(client: fluoroscope.Client, x: np.ndarray, sites: str) -> tuple[int, dict[str, Any]]:
    """Returns the peak of memory, and what came: of each value its checksum, dtype, shape and bytes."""
    inspection = client.inspect("wide", {"x": x}, sites=sites)
    peak = memory("VmHWM")
    return peak, {site: digest(each) for site, each in inspection.items()}


def stream(client: fluoroscope.Client, x: np.ndarray, sites: str, *, stall: bool) -> tuple[int, dict[str, Any]]:
    """The same, but lets each value go before it asks for the next."""
    found = {}
    for each in client.stream("wide", {"x": x}, sites=sites):
        found[each.site] = digest(each)
        if stall and len(found) == 1:
            say({"first": each.site})
            sys.stdin.read()
        del each
    return memory("VmHWM"), found


def main(mode: str, target: str, sites: str) -> None:
    x = np.random.default_rng(0).normal(size=(ROWS, FEATURES)).astype(np.float32)
    with fluoroscope.Client(target, timeout=240) as client:
        client.inspect("wide", {"x": x[:1]}, sites="activations/*")
        CLEAR.write_text("5")  # the peak begins anew
        before = memory("VmRSS")
        peak, found = (
            collect(client, x, sites) if mode == "collect" else stream(client, x, sites, stall=mode == "stall")
        )
    assert not ABSENT & {name.partition(".")[0] for name in sys.modules}
    say({"growth": peak - before, "found": found})


main(*sys.argv[1:])
