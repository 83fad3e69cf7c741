"""Checkpoints of other machines: another mesh, a GPU that is not here, several devices here."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest

from fluoroscope_server.checkpoints import open_checkpoint

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

FOUR = {"XLA_FLAGS": "--xla_force_host_platform_device_count=4", "JAX_PLATFORMS": "cpu"}

MESH = """
import sys
import jax, jax.numpy as jnp, numpy as np
import orbax.checkpoint as ocp
from pathlib import Path
from fluoroscope_server.checkpoints import open_checkpoint

assert len(jax.devices()) == 4
mesh = jax.sharding.Mesh(np.array(jax.devices()).reshape(2, 2), ("x", "y"))
sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("x", "y"))
"""

SAVE = """
tree = {"params": {"w": jax.device_put(jnp.arange(24.0).reshape(4, 6), sharding)}, "step": jnp.int32(3)}
with ocp.StandardCheckpointer() as checkpointer:
    checkpointer.save(Path(sys.argv[1]), tree)
"""

LOAD = """
expected = {"params": {"w": jax.ShapeDtypeStruct((4, 6), jnp.bfloat16, sharding=sharding)}}
w = open_checkpoint(Path(sys.argv[1])).restore(expected)["params"]["w"]
assert w.sharding == sharding and w.dtype == jnp.bfloat16
assert [shard.data.shape for shard in w.addressable_shards] == [(2, 3)] * 4
assert jnp.array_equal(w, jnp.arange(24.0).reshape(4, 6))
"""


def on_four_devices(code: str, path: Path) -> None:
    subprocess.run([sys.executable, "-c", MESH + code, str(path)], env=os.environ | FOUR, check=True, timeout=120)


def wanted() -> dict[str, Any]:
    return {"params": {"w": jax.ShapeDtypeStruct((4, 6), jnp.float32)}}


def test_saved_on_another_mesh(tmp_path: Path) -> None:
    on_four_devices(SAVE, tmp_path / "run")
    w = open_checkpoint(tmp_path / "run").restore(wanted())["params"]["w"]
    assert np.array_equal(w, np.arange(24.0).reshape(4, 6))
    assert w.sharding == jax.sharding.SingleDeviceSharding(jax.devices()[0])
    on_four_devices(LOAD, tmp_path / "run")


def test_saved_on_a_gpu(save: Callable[[Any], Path]) -> None:
    w = jnp.arange(24.0).reshape(4, 6)
    path = save({"params": {"w": w}})
    described = (path / "_sharding").read_text()
    on_gpu = described.replace(str(jax.devices()[0]), "cuda:0")
    assert json.loads(on_gpu) != json.loads(described)
    (path / "_sharding").write_text(on_gpu)
    with pytest.raises(ValueError, match=r"[Tt]opology|cuda:0"), ocp.StandardCheckpointer() as checkpointer:
        checkpointer.restore(path)  # the default restore, which must not be ours
    assert np.array_equal(open_checkpoint(path).restore(wanted())["params"]["w"], w)
