"""Refusals: one reason for the operator, one for clients, one word for a metric."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path

import jax.numpy as jnp
import pytest

from fluoroscope_server.errors import (
    CheckpointError,
    ConfigError,
    ModelError,
    OutOfMemoryError,
    WrongStateError,
)
from fluoroscope_server.serving.loading import loading
from fluoroscope_server.serving.refusal import refusal_of

FOLDER = Path("/srv/models/digits")


def wrapped(error: Exception) -> ModelError:
    """Wraps an error as loading does."""
    made = ModelError(f"model 'digits' cannot be loaded: {error}")
    made.__cause__ = error
    return made


def test_clients_see_no_path() -> None:
    error = CheckpointError(f"model 'digits': checkpoint '{FOLDER}', step 3 was deleted")
    refusal = refusal_of(error, FOLDER, contents=None)
    assert (refusal.kind, refusal.reason) == ("UNREADABLE", "model 'digits': checkpoint 'digits', step 3 was deleted")
    assert str(FOLDER) in refusal.error.message
    assert isinstance(refusal.as_error(), WrongStateError)
    assert refusal_of(ConfigError(""), FOLDER, contents=None).kind == "CONFIG"


def test_clients_do_not_see_what_nobody_expected() -> None:
    refusal = refusal_of(wrapped(RuntimeError("a secret")), FOLDER, contents=None)
    assert (refusal.kind, "secret" in refusal.reason, "secret" in refusal.error.message) == ("MODEL", False, True)


def test_no_room() -> None:
    with pytest.raises(OutOfMemoryError) as caught, loading("model 'digits'"):
        jnp.zeros(1 << 50, jnp.int8).block_until_ready()
    refusal = refusal_of(caught.value, FOLDER, contents=None)
    assert (refusal.kind, refusal.reason) == (
        "OUT_OF_MEMORY",
        "it does not fit into memory beside what is loaded: unload something first",
    )
    assert refusal.as_error().reason == "OUT_OF_MEMORY"


def test_a_refusal_holds_nothing_of_what_was_loaded() -> None:
    def load() -> ModelError:
        weights = jnp.zeros(3)
        held.append(weakref.ref(weights))
        try:
            raise RuntimeError("no")  # noqa: TRY301 (its traceback holds the weights)
        except RuntimeError as error:
            return wrapped(error)

    held: list[weakref.ref[object]] = []
    refusal = refusal_of(load(), FOLDER, contents=None)
    gc.collect()
    assert held[0]() is None
    assert refusal.kind == "MODEL"
