"""Dispatch: on which thread a program runs where the device is the processor."""

from __future__ import annotations

import jax


def compute_where_called() -> None:
    """Lets programs for the processor run on the thread that calls them; call it before JAX computes anything.

    JAX would hand each to a thread of XLA's own, which must be woken first. That serves those who do something else
    meanwhile; the device's threads here do nothing but wait for the result. For other devices this changes nothing.
    """
    jax.config.update("jax_cpu_enable_async_dispatch", False)
