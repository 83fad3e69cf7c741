"""Where programs for the processor run, tried in processes of their own: it is settled before JAX computes anything."""

from __future__ import annotations

import os
import subprocess
import sys

CODE = """
import sys
import jax, numpy as np
from fluoroscope_server.app import App
from fluoroscope_server.settings import Settings
if sys.argv[1] == "application":
    app = App(Settings())
x = jax.device_put(np.ones((1500, 1500), np.float32)).block_until_ready()
product = jax.jit(lambda x: x @ x @ x @ x).lower(x).compile()
print(product(x).is_ready())
"""


def is_ready_at_once(told_by: str) -> bool:
    """Whether a product that takes many milliseconds is there as soon as its program was called."""
    command = [sys.executable, "-c", CODE, told_by]
    env = {**os.environ, "JAX_PLATFORMS": "cpu"}
    printed = subprocess.run(command, env=env, capture_output=True, text=True, check=True).stdout
    return printed.strip() == "True"


def test_the_application_computes_on_the_thread_that_calls() -> None:
    assert is_ready_at_once("application")


def test_jax_by_itself_would_run_it_on_another_thread() -> None:
    """Or the other test would show nothing."""
    assert not is_ready_at_once("jax")
