"""Manifests: what was written is read, and nothing else is taken for one."""

from __future__ import annotations

import json
import re
import resource
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fluoroscope_server.checkpoints.digest import FileDigest
from fluoroscope_server.checkpoints.manifest import (
    Manifest,
    manifest_path,
    read_manifest,
    stray_manifests,
    write_manifest,
)
from fluoroscope_server.errors import CheckpointError, DamagedError

if TYPE_CHECKING:
    from pathlib import Path

SHA256 = st.text("0123456789abcdef", min_size=64, max_size=64)
FILES = st.dictionaries(
    st.text(min_size=1), st.builds(FileDigest, byte_size=st.integers(0, 1 << 40), sha256=SHA256), max_size=5
)
LINKS = st.dictionaries(st.text(min_size=1), st.text(min_size=1), max_size=2)
MANIFESTS = st.builds(Manifest, files=FILES, links=LINKS)
ONE = Manifest(
    files={"d/1": FileDigest(byte_size=3, sha256="ab" * 32), "_METADATA": FileDigest(byte_size=0, sha256="0" * 64)}
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("series") / "20"


@settings(max_examples=25)
@given(manifest=MANIFESTS)
def test_what_is_written_is_read(folder: Path, manifest: Manifest) -> None:
    path = write_manifest(folder, manifest, subject="")
    assert path == folder.parent / "20.fluoroscope.json"
    assert read_manifest(folder, subject="") == manifest
    assert [each.name for each in folder.parent.iterdir()] == [path.name]


@given(manifest=MANIFESTS, other=MANIFESTS)
def test_digests_differ_just_if_contents_do(manifest: Manifest, other: Manifest) -> None:
    files, links = list(manifest.files.items()), list(manifest.links.items())
    again = Manifest(files=dict(files[::-1]), links=dict(links[::-1]))
    assert (manifest.digest, manifest.differences(again)) == (again.digest, [])
    assert (manifest.digest == other.digest) == (manifest == other)
    assert bool(manifest.differences(other)) == (manifest != other)


@settings(max_examples=60)
@given(data=st.data())
def test_a_bit_of_a_manifest_is_flipped(folder: Path, data: st.DataObject) -> None:
    path = write_manifest(folder, ONE, subject="")
    raw = bytearray(path.read_bytes())
    raw[data.draw(st.integers(0, len(raw) - 2))] ^= 1 << data.draw(st.integers(0, 7))  # the last byte ends the line
    path.write_bytes(raw)
    with pytest.raises(DamagedError, match=r"20 is sealed, but .*json is (damaged|of version)"):
        read_manifest(folder, subject="20")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        "[]",
        "null",
        '"x"',
        '{"fluoroscope_manifest": 1, "files": []}',
        '{"fluoroscope_manifest": 1, "files": {"x": {"bytes": Infinity, "sha256": ""}}}',
        "[" * 200_000,
        "\xff",
    ],
    ids=lambda text: text[:12],
)
def test_what_is_no_manifest(folder: Path, text: str) -> None:
    manifest_path(folder).write_text(text, encoding="latin-1")
    with pytest.raises(DamagedError, match="is damaged: copy that file again"):
        read_manifest(folder, subject="20")


def test_a_manifest_of_a_later_version(folder: Path) -> None:
    manifest_path(folder).write_text(json.dumps({"fluoroscope_manifest": 2}))
    with pytest.raises(DamagedError, match="is of version 2, and this server knows 1: install a newer fluoroscope"):
        read_manifest(folder, subject="20")


def test_a_manifest_that_cannot_be_read(folder: Path) -> None:
    manifest_path(folder).unlink()
    assert read_manifest(folder, subject="20") is None
    manifest_path(folder).mkdir()
    with pytest.raises(CheckpointError, match=r"^20 is sealed, but .* cannot be read: Is a directory"):
        read_manifest(folder, subject="20")
    manifest_path(folder).rmdir()


def test_a_link_has_the_manifest_of_what_it_leads_to(tmp_path: Path) -> None:
    (tmp_path / "20").mkdir()
    (tmp_path / "latest").symlink_to("20")
    write_manifest(tmp_path / "latest", ONE, subject="")
    assert read_manifest(tmp_path / "20", subject="") == ONE
    assert stray_manifests(tmp_path) == []
    (tmp_path / "20").rmdir()
    assert [path.name for path in stray_manifests(tmp_path)] == ["20.fluoroscope.json"]


def test_a_full_disk_leaves_what_was_there(tmp_path: Path) -> None:
    """No file may grow beyond a few bytes for a moment: the same path through the system as a disk without room."""
    folder = tmp_path / "20"
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    for there in (None, Manifest(files={})):
        if there:
            write_manifest(folder, there, subject="")
        resource.setrlimit(resource.RLIMIT_FSIZE, (16, before[1]))
        try:
            with pytest.raises(CheckpointError) as refused:
                write_manifest(folder, ONE, subject="checkpoint 'run', step 20")
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        words = (
            r"^checkpoint 'run', step 20 cannot be sealed: .*20\.fluoroscope\.json cannot be written: File too large"
        )
        assert re.search(words, refused.value.message)
        assert read_manifest(folder, subject="") == there
        assert len(list(tmp_path.iterdir())) == bool(there)


def test_all_differences_are_counted_and_some_are_named() -> None:
    files = {f"d/{index}": FileDigest(byte_size=1, sha256="0" * 64) for index in range(20)}
    with pytest.raises(DamagedError, match=r"^x is not what was sealed: file 'd/0' is missing; .*; and 12 more\. Copy"):
        Manifest(files=files).require(Manifest(files={}), subject="x")
