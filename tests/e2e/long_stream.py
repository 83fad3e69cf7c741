"""A stream that lasts as long as its reader takes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .saved import batch

if TYPE_CHECKING:
    import fluoroscope

SITES = "activations/*"


def begin_stream(client: fluoroscope.Client, model: str = "wide") -> tuple[Any, list[str]]:
    """Begins a stream that is far larger than what may be on its way, and reads its first value."""
    stream = client.stream(model, {"x": batch(256)}, sites=SITES, timeout=120)
    return stream, [next(stream).site]
