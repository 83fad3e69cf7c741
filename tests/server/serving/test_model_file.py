"""The file model.toml: which steps serve, what the network is, either of them, or neither."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from fluoroscope_server.errors import ConfigError
from fluoroscope_server.serving.model_file import ModelFile, read_model_file
from fluoroscope_server.serving.version_policy import VersionPolicy

if TYPE_CHECKING:
    from pathlib import Path


def test_no_file(tmp_path: Path) -> None:
    assert read_model_file(tmp_path) == read_model_file(tmp_path / "nowhere") == ModelFile()


def test_both(tmp_path: Path) -> None:
    (tmp_path / "model.toml").write_text('family = "f"\nversions = "all"\nbuckets = [1]\n[labels]\nstable = 100\n')
    file = read_model_file(tmp_path)
    assert file.policy == VersionPolicy(latest=None, labels={"stable": 100})
    assert file.network == {"family": "f", "buckets": [1]}


def test_a_policy_alone_leaves_the_network_to_the_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "model.toml").write_text("versions = {latest = 2}")
    assert read_model_file(tmp_path) == ModelFile(policy=VersionPolicy(latest=2))


@pytest.mark.parametrize("text", ["versions = ", f"versions = {'[' * 100_000}", "\xff"], ids=["cut", "deep", "bytes"])
def test_what_is_no_toml(tmp_path: Path, text: str) -> None:
    (tmp_path / "model.toml").write_text(text, encoding="latin-1")
    with pytest.raises(ConfigError, match=r"model\.toml cannot be read: "):
        read_model_file(tmp_path)


def test_an_unknown_key(tmp_path: Path) -> None:
    (tmp_path / "model.toml").write_text('version = "all"')
    with pytest.raises(ConfigError, match=r"model\.toml has an unknown key 'version'; nearest: 'versions'"):
        read_model_file(tmp_path)
