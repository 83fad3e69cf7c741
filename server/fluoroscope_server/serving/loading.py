"""Loading: from a checkpoint folder to a servable."""

from __future__ import annotations

import contextlib
import functools
import time
from typing import TYPE_CHECKING, Any

from fluoroscope_server.checkpoints import open_checkpoint
from fluoroscope_server.engine import Engine
from fluoroscope_server.errors import ConfigError, ModelError
from fluoroscope_server.families import build_network
from fluoroscope_server.model_config import EXAMPLE, ModelConfig
from fluoroscope_server.serving.batcher import Batcher
from fluoroscope_server.serving.model_file import CONFIG_FILE, read_model_file
from fluoroscope_server.serving.presets import compile_presets
from fluoroscope_server.serving.servable import Servable, predict_batch

if TYPE_CHECKING:
    from collections.abc import Callable

    from fluoroscope_server.checkpoints import Checkpoint
    from fluoroscope_server.serving.device_queue import DeviceQueue
    from fluoroscope_server.settings import ModelSource


def load(
    source: ModelSource,
    device: DeviceQueue,
    *,
    step: int | None = None,
    capacity: int,
    max_compiles: int = 32,
    on_compile: Callable[[float], None],
) -> Servable:
    """Reads a checkpoint, builds and compiles its network and runs it once. Takes long; safe on any thread.

    Args:
        source: where the model is.
        device: where it will run.
        step: which step; None means the newest.
        capacity: how many compiled inspections to hold.
        max_compiles: how many inspections may be compiled or wait for that at once.
        on_compile: told of each compilation, with its seconds.

    Raises:
        ModelError: the model cannot be served; the message says why, and which model it is.
    """
    start = time.perf_counter()
    try:
        raw = read_model_file(source.path).network
        checkpoint = open_checkpoint(source.path, step=step, item=raw.get("item"), prefix=raw.get("prefix"))
        config = ModelConfig.parse(raw or _stored_config(checkpoint, source), family=source.family)
        network = build_network(config, {path: (leaf.shape, leaf.dtype) for path, leaf in checkpoint.leaves.items()})
        variables = checkpoint.restore(network.variables)
        engine = Engine(
            network,
            variables,
            buckets=config.buckets,
            capacity=capacity,
            max_compiles=max_compiles,
            on_compile=on_compile,
        )
        with contextlib.ExitStack() as undo:
            undo.callback(engine.close)  # else its weights would stay until the garbage is collected
            compile_presets(engine, config.presets)
            engine.warm_up()
            undo.pop_all()
    except ModelError as error:
        raise type(error)(f"model {source.name!r}: {error.message}") from error
    except Exception as error:  # the compiler and the operator's code raise what they like: they are told which model
        raise ModelError(f"model {source.name!r} cannot be loaded: {type(error).__name__}: {error}") from error
    seconds = time.perf_counter() - start
    return Servable(
        name=source.name,
        version=checkpoint.step,
        family=config.family,
        engine=engine,
        device=device,
        batcher=Batcher(
            functools.partial(predict_batch, engine),
            device,
            max_rows=engine.joined_rows,
            expected_seconds=lambda rows: engine.seconds[engine.bucket_for(rows)],
        ),
        load_seconds=seconds,
    )


def _stored_config(checkpoint: Checkpoint, source: ModelSource) -> dict[str, Any]:
    if checkpoint.config is not None:
        return checkpoint.config
    raise ConfigError(
        f"the checkpoint {source.path} does not say what its network is: save a JSON item named 'config' in it, "
        f"or put a {CONFIG_FILE} in that folder, with the same content: {EXAMPLE}"
    )
