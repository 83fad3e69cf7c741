"""Loading: from a checkpoint folder to a servable."""

from __future__ import annotations

import contextlib
import functools
import time
from typing import TYPE_CHECKING, Any

from fluoroscope_server.checkpoints import open_checkpoint, verify
from fluoroscope_server.engine import Engine
from fluoroscope_server.errors import ConfigError, ModelError, OutOfMemoryError, ran_out_of_memory
from fluoroscope_server.families import build_network
from fluoroscope_server.model_config import EXAMPLE, ModelConfig
from fluoroscope_server.serving.batcher import Batcher
from fluoroscope_server.serving.canary import check_weights, try_forward
from fluoroscope_server.serving.joined_inspections import JoinedInspections
from fluoroscope_server.serving.model_file import CONFIG_FILE, read_model_file
from fluoroscope_server.serving.presets import compile_presets
from fluoroscope_server.serving.servable import Servable, predict_batch
from fluoroscope_server.serving.tally import Tally

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from fluoroscope_server.checkpoints import Checkpoint, Verified
    from fluoroscope_server.families import Network, Variables
    from fluoroscope_server.serving.device_queue import DeviceQueue
    from fluoroscope_server.settings import ModelSource


def load(
    source: ModelSource,
    device: DeviceQueue,
    *,
    step: int | None = None,
    capacity: int,
    max_compiles: int = 32,
    max_delay: float = 0.0,
    on_compile: Callable[[float], None],
    require_seal: bool = False,
) -> Servable:
    """Verifies and reads a checkpoint, builds and compiles its network and tries it. Takes long; safe on any thread.

    Args:
        source: where the model is.
        device: where it will run.
        step: which step; None means the newest.
        capacity: how many compiled inspections to hold.
        max_compiles: how many inspections and comparisons may be compiled or wait for that at once.
        max_delay: how many seconds a prediction waits for others to go with, if the model's config does not say.
        on_compile: told of each compilation, with its seconds.
        require_seal: whether to refuse a checkpoint that was not sealed.

    Raises:
        ModelError: the model cannot be served; the message says why, and which model it is, and `reason` is one of
            `REFUSALS`.
    """
    start = time.perf_counter()
    with loading(f"model {source.name!r}"):
        verified, checkpoint, config, network = open_model(source, step, require_seal=require_seal)
        variables = restore(verified, checkpoint, config, network)
        engine = make_engine(
            network, variables, config, capacity=capacity, max_compiles=max_compiles, on_compile=on_compile
        )
    seconds = time.perf_counter() - start
    tally = Tally()
    return Servable(
        name=source.name,
        version=checkpoint.step,
        family=config.family,
        engine=engine,
        device=device,
        batcher=Batcher(
            functools.partial(predict_batch, engine, tally),
            device,
            max_rows=engine.joined_rows,
            expected_seconds=lambda rows: engine.seconds[engine.bucket_for(rows)],
            name=source.name,
            max_delay=max_delay if config.max_delay is None else config.max_delay,
        ),
        inspections=JoinedInspections(engine, device, tally, name=source.name),
        load_seconds=seconds,
        tally=tally,
        digest=verified.content.digest,
        sealed=verified.sealed,
    )


def open_model(
    source: ModelSource, step: int | None = None, *, require_seal: bool = False
) -> tuple[Verified, Checkpoint, ModelConfig, Network]:
    """Verifies a step, finds out what it holds, and builds its network. Takes no memory for weights.

    Args:
        source: where the model is.
        step: the step; None means the newest that is committed.
        require_seal: whether to refuse a checkpoint that was not sealed.

    Raises:
        ModelError: the checkpoint is damaged or cannot be read, or does not say what its network is.
    """
    raw = read_model_file(source.path).network
    verified = verify(source.path, step=step, require_seal=require_seal)
    checkpoint = open_checkpoint(source.path, step=verified.place.step, item=raw.get("item"), prefix=raw.get("prefix"))
    config = ModelConfig.parse(_config(raw, checkpoint, source), family=source.family)
    network = build_network(config, {path: (leaf.shape, leaf.dtype) for path, leaf in checkpoint.leaves.items()})
    return verified, checkpoint, config, network


def restore(verified: Verified, checkpoint: Checkpoint, config: ModelConfig, network: Network) -> Variables:
    """Reads the weights onto the device: those that were verified.

    Raises:
        ModelError: they cannot be read, have changed since, do not fit the network, or are not finite.
    """
    variables = checkpoint.restore(network.variables)
    verified.confirm()
    check_weights(variables, config.canary)
    return variables


def make_engine(network: Network, variables: Variables, config: ModelConfig, **options: Any) -> Engine:
    """Compiles a network and its presets, tries it and warms it up: what is left of a load once it has its weights.

    Args:
        network: the network.
        variables: its variables, on the device.
        config: its buckets, its presets, and how it is tried.
        options: those of `Engine` besides.

    Raises:
        ModelError: the network cannot be traced, a preset asks for what it does not have, or an output is not finite.
    """
    engine = Engine(network, variables, buckets=config.buckets, **options)
    with contextlib.ExitStack() as undo:
        undo.callback(engine.close)
        try_forward(engine, config.canary)
        if config.canary.run:
            engine.probe_rows()
        compile_presets(engine, config.presets)
        engine.warm_up()
        undo.pop_all()
    return engine


@contextlib.contextmanager
def loading(what: str) -> Iterator[None]:
    """Turns whatever is raised inside the block into a ModelError that says of what."""
    try:
        yield
    except (Exception, SystemExit) as error:  # the compiler and the operator's code raise what they like
        cause = (
            error.__cause__ if isinstance(error, ModelError) else error
        )  # the family's own code may take memory, too
        if ran_out_of_memory(cause):
            raise OutOfMemoryError(
                f"{what} does not fit into memory: {str(cause).rstrip('.')}. Free the memory of the device, serve "
                "fewer models on it, or choose smaller `buckets`"
            ) from error
        if isinstance(error, ModelError):
            raise type(error)(f"{what}: {error.message}", reason=error.reason) from error
        raise ModelError(f"{what} cannot be loaded: {type(error).__name__}: {error}") from error


def _config(file: Mapping[str, Any], checkpoint: Checkpoint, source: ModelSource) -> Mapping[str, Any]:
    """Returns a network's config. A model file says all if it names a family; else it is laid over what is stored."""
    if "family" in file or (file and checkpoint.config is None):
        return file
    return {**_stored_config(checkpoint, source), **file}


def _stored_config(checkpoint: Checkpoint, source: ModelSource) -> dict[str, Any]:
    if checkpoint.config is not None:
        return checkpoint.config
    raise ConfigError(
        f"the checkpoint {source.path} does not say what its network is: save a JSON item named 'config' in it, "
        f"or put a {CONFIG_FILE} in that folder, with the same content: {EXAMPLE}"
    )
