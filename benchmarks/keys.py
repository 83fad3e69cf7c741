"""What keys cost: `Predict` with TLS and a token, beside the same server without."""

from __future__ import annotations

import contextlib
import subprocess
from typing import TYPE_CHECKING

import numpy as np

import load
import servers
from fluoroscope_server.keys import entry_of, new_token
from row import Row, Samples

if TYPE_CHECKING:
    from pathlib import Path

METHOD = "/fluoroscope.v1.InferenceService/Predict"


def measure(model: str, request: bytes, folder: Path, *, copies: int, rounds: int, seconds: float) -> list[Row]:
    """Compares latency and throughput; certificate, key and tokens are written to the folder."""
    access, options = _keys(folder)
    p50, rate = Samples(), Samples()
    with contextlib.ExitStack() as stack:
        plain = [stack.enter_context(servers.fluoroscope(model)) for _ in range(copies)]
        keyed = [stack.enter_context(servers.fluoroscope(model, options=options)) for _ in range(copies)]
        for pair in list(zip(plain, keyed, strict=True)) * rounds:
            for name, address, keys in (("plain", pair[0], load.OPEN), ("keyed", pair[1], access)):
                times = load.latencies(address, METHOD, request, seconds=seconds, access=keys)
                p50.add(name, float(np.percentile(times, 50)))
                rate.add(name, load.throughput(address, METHOD, request, in_flight=16, seconds=seconds, access=keys))
    return [
        Row(
            what="Predict p50, one client, batch 1, with TLS and a token",
            ours=f"{1e3 * p50.median('keyed'):.2f} ms",
            theirs=f"{1e3 * p50.median('plain'):.2f} ms (without)",
            ratio=p50.median("keyed") / p50.median("plain"),
            target="stated",
        ),
        Row(
            what="Predict, 16 in flight, batch 1, with TLS and a token",
            ours=f"{rate.median('keyed'):,.0f} requests/s",
            theirs=f"{rate.median('plain'):,.0f} requests/s (without)",
            ratio=rate.median("keyed") / rate.median("plain"),
            target="stated",
        ),
    ]


def _keys(folder: Path) -> tuple[load.Access, list[str]]:
    """Returns what a client shows and trusts, and the options of the server that it is good for."""
    certificate, key, tokens = (folder / name for name in ("tls.crt", "tls.key", "tokens.toml"))
    words = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost"
    words += f" -addext subjectAltName=IP:127.0.0.1 -keyout {key} -out {certificate}"
    subprocess.run(words.split(), check=True, capture_output=True)
    token = new_token()
    tokens.write_text(entry_of(token, "bench", ["predict"]))
    tokens.chmod(0o600)
    options = [f"--tls-certificate={certificate}", f"--tls-key={key}", f"--tokens={tokens}"]
    return load.Access(root=certificate.read_bytes(), token=token), options
