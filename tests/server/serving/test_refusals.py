"""What a server refuses to load, each for its reason, and what it says of what it has loaded."""

from __future__ import annotations

import asyncio
import itertools
import re
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fluoroscope_server import errors
from fluoroscope_server.checkpoints import Checkpoint, open_checkpoint, seal, verify
from fluoroscope_server.errors import (
    REFUSALS,
    CheckpointError,
    DamagedError,
    MismatchError,
    ModelError,
    NotFiniteError,
    OutOfMemoryError,
    UnsealedError,
)
from fluoroscope_server.serving import load
from fluoroscope_server.serving import loading as loading_module
from fluoroscope_server.serving.checking import BAD_NAME, LEFTOVER
from fluoroscope_server.settings import ModelSource

if TYPE_CHECKING:
    from collections.abc import Callable

    from fluoroscope_server.serving import DeviceQueue, Servable


@pytest.fixture(scope="module")
def original(
    tmp_path_factory: pytest.TempPathFactory, save: Callable[..., Path], variables: Any, model_config: dict[str, Any]
) -> Path:
    path = save(tmp_path_factory.mktemp("refusals") / "run", variables, {**model_config, "buckets": [1]})
    seal(path)
    return path


@pytest.fixture
def sealed(original: Path, tmp_path: Path) -> Path:
    """A copy of a sealed checkpoint, to be damaged."""
    shutil.copy(original.with_name("run.fluoroscope.json"), tmp_path)
    return shutil.copytree(original, tmp_path / "run")


@pytest.fixture
def load_model(device: DeviceQueue) -> Callable[..., Servable]:
    def make(path: Path, **options: Any) -> Servable:
        return load(ModelSource(name="digits", path=path), device, capacity=8, on_compile=lambda _: None, **options)

    return make


def test_the_reasons_are_those_of_the_errors() -> None:
    classes = [each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, ModelError)]
    assert sorted(REFUSALS) == sorted({each.reason for each in classes})
    assert len(REFUSALS) == len(classes)
    text = (Path(__file__).parents[3] / "docs" / "integrity.md").read_text()
    documented = set(re.findall(r"^\| `([A-Z_]+)` \|", text, re.MULTILINE))
    assert documented == {*REFUSALS, BAD_NAME, LEFTOVER}, "each needs a row in docs/integrity.md"


def test_what_was_loaded_has_a_digest(sealed: Path, load_model: Callable[..., Servable]) -> None:
    whole = load_model(sealed, require_seal=True)
    assert (whole.sealed, whole.digest) == (True, verify(sealed).content.digest)
    sealed.with_name("run.fluoroscope.json").unlink()
    unsealed = load_model(sealed)
    assert (unsealed.sealed, unsealed.digest) == (False, whole.digest)
    with pytest.raises(UnsealedError, match=r"^model 'digits': checkpoint .* is not sealed"):
        load_model(sealed, require_seal=True)


def test_a_damaged_checkpoint(sealed: Path, load_model: Callable[..., Servable]) -> None:
    (file,) = (sealed / "params" / "d").iterdir()
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    with pytest.raises(DamagedError, match=f"^model 'digits': .*file 'params/d/{file.name}' has other bytes"):
        load_model(sealed)


@pytest.mark.parametrize("when", ["open_checkpoint", "build_network"])
def test_a_step_deleted_while_it_loads(
    when: str, sealed: Path, load_model: Callable[..., Servable], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whenever that is: an error that says so, and nothing hangs."""
    whole = getattr(loading_module, when)

    def vanish(*arguments: Any, **options: Any) -> Any:
        shutil.rmtree(sealed)
        return whole(*arguments, **options)

    monkeypatch.setattr(loading_module, when, vanish)
    with pytest.raises(CheckpointError, match=r"^model 'digits': .*(deleted while it was read|no such folder)"):
        load_model(sealed)


def test_a_step_deleted_while_its_weights_are_read(
    sealed: Path, load_model: Callable[..., Servable], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = Checkpoint.restore

    def vanish(checkpoint: Checkpoint, expected: Any) -> Any:
        variables = whole(checkpoint, expected)
        shutil.rmtree(sealed)
        return variables

    monkeypatch.setattr(Checkpoint, "restore", vanish)
    with pytest.raises(CheckpointError, match=r"^model 'digits': .* was deleted while it was read"):
        load_model(sealed)


def test_a_step_replaced_while_it_loads(
    sealed: Path, load_model: Callable[..., Servable], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was verified and what was read must be the same files."""
    whole = open_checkpoint

    def replace(*arguments: Any, **options: Any) -> Any:
        other = shutil.copytree(sealed, sealed.with_name("other"))
        shutil.rmtree(sealed)
        other.rename(sealed)
        return whole(*arguments, **options)

    monkeypatch.setattr(loading_module, "open_checkpoint", replace)
    with pytest.raises(CheckpointError, match=r"^model 'digits': .* was changed while it was read"):
        load_model(sealed)


def test_weights_of_another_network(
    tmp_path: Path, save: Callable[..., Path], load_model: Callable[..., Servable], model_config: dict[str, Any]
) -> None:
    path = save(tmp_path / "run", {"params": {"x": jnp.zeros(3)}}, model_config)
    with pytest.raises(MismatchError, match=r"^model 'digits': .*does not fit the network"):
        load_model(path)


def test_weights_that_are_not_finite(
    tmp_path: Path,
    save: Callable[..., Path],
    load_model: Callable[..., Servable],
    variables: Any,
    model_config: dict[str, Any],
) -> None:
    broken = jax.tree.map(lambda leaf: leaf, variables)
    broken["params"]["Dense_1"]["bias"] = broken["params"]["Dense_1"]["bias"].at[2].set(np.nan)
    path = save(tmp_path / "run", broken, {**model_config, "buckets": [1]})
    with pytest.raises(
        NotFiniteError, match=r"^model 'digits': the weights are not finite: params/Dense_1/bias: 1 NaN"
    ):
        load_model(path)


def test_a_forward_that_is_not_finite(
    tmp_path: Path,
    save: Callable[..., Path],
    load_model: Callable[..., Servable],
    variables: Any,
    model_config: dict[str, Any],
) -> None:
    """Finite weights do not make a finite network. Whoever wants it so can have it, and no thread is left behind."""
    large = jax.tree.map(lambda leaf: leaf * 1e30, variables)
    config = {**model_config, "buckets": [1]}
    threads = set(threading.enumerate())
    with pytest.raises(NotFiniteError, match=r"^model 'digits': of zeros, the network computes .* that of 'Dense_1'"):
        load_model(save(tmp_path / "run", large, config))
    for thread in {each for each in threading.enumerate() if each.name.startswith("compile")} - threads:
        thread.join(10)
        assert not thread.is_alive()
    allowed = save(tmp_path / "allowed", large, {**config, "canary": {"allow_nonfinite": True}})
    assert asyncio.run(_is_served(load_model(allowed)))


async def _is_served(servable: Servable) -> bool:
    from fluoroscope_server.serving import StageClock

    answer = await servable.predict({"image": np.ones((1, 2, 2), np.float32)}, (), StageClock())
    return not np.isfinite(answer["logits"]).any()


def test_a_network_that_does_not_fit_into_memory(
    tmp_path: Path,
    save: Callable[..., Path],
    load_model: Callable[..., Servable],
    family: Callable[[Any], str],
) -> None:
    """It asks for 64 TiB, which no machine gives."""

    def apply(variables: Any, inputs: Any) -> Any:
        shape = (inputs["x"].shape[0], 1 << 44)
        wide = jnp.sin(inputs["x"] * variables["w"] * jax.lax.broadcasted_iota(jnp.float32, shape, 1))
        return jnp.sort(wide, axis=-1)[:, :3]

    config = {"family": family(lambda _: apply), "inputs": {"x": {"shape": [1]}}, "buckets": [1]}
    path = save(tmp_path / "run", {"w": jnp.ones(())}, config)
    words = (
        r"^model 'digits' does not fit into memory: .*Out of memory allocating .*[^.]\. Free the memory of the device, "
    )
    with pytest.raises(OutOfMemoryError, match=words):
        load_model(path)


LIMITED = """
import resource, sys
from pathlib import Path
from fluoroscope_server.errors import OutOfMemoryError
from fluoroscope_server.serving import DeviceQueue, load
from fluoroscope_server.settings import ModelSource

small, large = (ModelSource(name="digits", path=Path(path)) for path in sys.argv[1:])
device = DeviceQueue("device")
load(small, device, capacity=1, on_compile=print)  # whatever is allocated once is there now
pages = int(Path("/proc/self/statm").read_text().split()[0])
most = pages * resource.getpagesize() + (400 << 20)
resource.setrlimit(resource.RLIMIT_AS, (most, most))
try:
    load(large, device, capacity=1, on_compile=print)
except OutOfMemoryError as error:
    print(error.message)
device.close()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux bounds a process's address space")
def test_weights_that_do_not_fit_into_memory(
    tmp_path: Path, original: Path, save: Callable[..., Path], model_config: dict[str, Any]
) -> None:
    """A leaf of 512 MiB of zeros, which are next to nothing on disk, where 400 MiB are left."""
    sizes = (4, 1 << 13, 1 << 14, 1)
    config = {**model_config, "config": {"hidden_sizes": sizes[1:3], "num_classes": sizes[3]}}
    tree = {
        f"Dense_{layer}": {"kernel": jnp.zeros((before, after)), "bias": jnp.zeros(after)}
        for layer, (before, after) in enumerate(itertools.pairwise(sizes))
    }
    path = save(tmp_path / "large", tree, config)
    code = [sys.executable, "-c", LIMITED, str(original), str(path)]
    printed = subprocess.run(code, capture_output=True, text=True, check=True, timeout=120).stdout
    words = r"model 'digits': checkpoint '.*large', item 'params', cannot be read: the data does not fit.*\. Free"
    assert re.search(words, printed), printed
