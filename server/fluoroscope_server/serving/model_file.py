"""The file model.toml in a model's folder."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from fluoroscope_server.errors import ConfigError, nearest
from fluoroscope_server.model_config import ModelConfig
from fluoroscope_server.serving.version_policy import VersionPolicy

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

CONFIG_FILE = "model.toml"
"""The file in a model's folder that says what the network is, if the checkpoint does not, and which steps serve."""

POLICY_KEYS = ("versions", "labels", "swap")
"""The keys that say which steps serve; all others say what the network is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFile:
    """What a model's folder says of the model, beside its checkpoints."""

    policy: VersionPolicy = field(default_factory=VersionPolicy)
    """Which of its steps serve."""

    network: Mapping[str, Any] = field(default_factory=dict)
    """What the network is, as `ModelConfig` takes it. Without a `family` it is laid over what the checkpoint says."""


def read_model_file(folder: Path) -> ModelFile:
    """Returns what the folder's model.toml says; what is usual if there is none.

    Raises:
        ConfigError: it cannot be read, or has an unknown key or a value of the wrong form.
    """
    file = folder / CONFIG_FILE
    try:
        raw = tomllib.loads(file.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return ModelFile()
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"{file} cannot be read: {error}") from error
    known = [*ModelConfig.__dataclass_fields__, *POLICY_KEYS]
    for key in raw:
        if key not in known:
            raise ConfigError(
                f"{file} has an unknown key {key!r}; nearest: {nearest(key, known)}; known: {', '.join(known)}"
            )
    network = {key: value for key, value in raw.items() if key not in POLICY_KEYS}
    return ModelFile(policy=VersionPolicy.parse(raw), network=network)
