"""Magika's file-type network in Flax: a byte embedding, one convolution, a maximum over the file.

Learned from the graph of the ONNX model that the `magika` package ships. Nothing here knows fluoroscope:
`build` is an ordinary family, a callable from a config to a Linen module.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import flax.linen as nn

if TYPE_CHECKING:
    from collections.abc import Mapping

    import jax


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkConfig:
    """The sizes of the network; the defaults are those of the model `standard_v3_3`."""

    vocabulary: int = 257
    """How many tokens there are: 256 bytes and the padding."""

    embedding_features: int = 64
    """The length of the vector that stands for one byte."""

    patch_bytes: int = 4
    """How many neighbouring bytes are read as one position of the convolution."""

    conv_features: int = 512
    """How many channels the convolution has."""

    conv_width: int = 5
    """How many positions, each of `patch_bytes`, the convolution sees at once."""

    classes: int = 214
    """How many file types there are."""

    precision: str = "highest"
    """The precision of the products: `highest` is float32 on accelerators that would round their inputs."""


class FileTypeNetwork(nn.Module):
    """From the first and last bytes of a file to the probability of each file type."""

    config: NetworkConfig

    @nn.compact
    def __call__(self, tokens: jax.Array) -> jax.Array:
        """Returns float32 probabilities of shape `(batch, classes)`.

        Args:
            tokens: int32 of shape `(batch, bytes)`, where `bytes` is a multiple of `patch_bytes`. A token
                above the vocabulary gives NaN.
        """
        config = self.config
        batch, length = tokens.shape
        x = nn.Embed(config.vocabulary, config.embedding_features, name="byte_embedding")(tokens)
        x = nn.gelu(x)
        # (batch, positions, patch_bytes * embedding_features)
        x = x.reshape(batch, length // config.patch_bytes, -1)
        # Over the positions, not over the features: each feature is normalised along the file. Where a file
        # repeats itself, or is mostly padding, a feature hardly varies, and the fast variance, E[x^2] - E[x]^2, is
        # mostly rounding: it moves probabilities by up to 4e-4 (in onnxruntime) from what the weights mean.
        x = nn.LayerNorm(reduction_axes=1, feature_axes=1, use_fast_variance=False, name="patch_norm")(x)
        x = nn.Conv(
            config.conv_features, (config.conv_width,), padding="VALID", precision=config.precision, name="conv"
        )(x)
        x = nn.gelu(x)
        x = x.max(axis=1)  # (batch, conv_features): where in the file a pattern was no longer counts
        x = nn.LayerNorm(name="pool_norm")(x)
        x = nn.Dense(config.classes, precision=config.precision, name="logits")(x)
        return nn.softmax(x)


def build(config: Mapping[str, Any]) -> FileTypeNetwork:
    """Returns the network that `config` describes: the family `network:build`.

    Args:
        config: values for the fields of `NetworkConfig`; those left out keep their defaults.

    Raises:
        ValueError: if `config` has a key that is no field.
    """
    known = asdict(NetworkConfig())
    if unknown := sorted(config.keys() - known.keys()):
        raise ValueError(f"the config has unknown keys {unknown}; known are {sorted(known)}")
    return FileTypeNetwork(NetworkConfig(**config))
