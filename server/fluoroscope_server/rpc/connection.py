"""What gRPC is told about connections: how many, how long they may be silent, and whether anybody is there still."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fluoroscope_server.settings import Settings

HANDSHAKE_SECONDS = 20
"""How long a connection may take until its client has said a first word of HTTP/2."""

MOST_BYTES = (1 << 31) - 1
"""The largest number that gRPC takes."""


def options_of(settings: Settings) -> tuple[tuple[str, int], ...]:
    """Returns the options of the gRPC server."""
    options = [
        ("grpc.max_receive_message_length", min(MOST_BYTES, 2 * settings.max_request_bytes)),  # see `Admission`
        ("grpc.max_send_message_length", -1),
        ("grpc.so_reuseport", 0),  # a port that is taken is an error, not half of the traffic
        ("grpc.max_allowed_incoming_connections", settings.max_connections),
        ("grpc.max_concurrent_streams", settings.max_calls_per_connection),
        ("grpc.server_handshake_timeout_ms", 1000 * HANDSHAKE_SECONDS),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.keepalive_time_ms", _milliseconds(settings.keepalive_seconds)),
        ("grpc.keepalive_timeout_ms", _milliseconds(settings.keepalive_timeout_seconds)),
        ("grpc.http2.ping_timeout_ms", _milliseconds(settings.keepalive_timeout_seconds)),  # the lower one counts
        ("grpc.http2.min_ping_interval_without_data_ms", _milliseconds(settings.min_ping_seconds)),
    ]
    for name, seconds in (
        ("grpc.max_connection_idle_ms", settings.max_connection_idle_seconds),
        ("grpc.max_connection_age_ms", settings.max_connection_age_seconds),
    ):
        if seconds:
            options.append((name, _milliseconds(seconds)))
    return tuple(options)


def _milliseconds(seconds: float) -> int:
    return max(1, round(1000 * seconds))
