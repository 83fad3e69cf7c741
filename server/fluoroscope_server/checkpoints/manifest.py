"""The manifest of a sealed checkpoint: which files it has, and what is in each.

It lies beside the folder that Orbax owns, never in it: `20.fluoroscope.json` beside the step `20`.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from fluoroscope_server.checkpoints.digest import FileDigest
from fluoroscope_server.errors import CheckpointError, DamagedError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

SUFFIX = ".fluoroscope.json"
"""What the name of a manifest has behind the name of the checkpoint's folder."""

_FORMAT = "fluoroscope_manifest"
_VERSION = 1
_MOST_DIFFERENCES = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """The content of a checkpoint."""

    files: Mapping[str, FileDigest]
    """What each file holds, by its path in the checkpoint, with slashes."""

    links: Mapping[str, str] = field(default_factory=dict)
    """Where each link leads to a folder whose files are among them under another path, by its own path."""

    @property
    def digest(self) -> str:
        """Returns one digest for all: the SHA-256 of all paths, sizes, digests and links, in hexadecimal."""
        files = sorted((path, each.byte_size, each.sha256) for path, each in self.files.items())
        rows = [*files, *sorted(self.links.items())]
        return hashlib.sha256(json.dumps(rows, separators=(",", ":")).encode()).hexdigest()

    @property
    def byte_size(self) -> int:
        """Returns the bytes of all files together."""
        return sum(each.byte_size for each in self.files.values())

    def differences(self, found: Manifest) -> list[str]:
        """Returns in words what other content differs in, file by file; nothing if it does not."""
        files, links = sorted({*self.files, *found.files}), sorted({*self.links, *found.links})
        words = [
            *(_difference(name, self.files.get(name), found.files.get(name)) for name in files),
            *(_turn(name, self.links.get(name), found.links.get(name)) for name in links),
        ]
        return list(filter(None, words))

    def require(self, found: Manifest, *, subject: str) -> None:
        """Raises DamagedError, which names the files, if other content differs."""
        differences = self.differences(found)
        if not differences:
            return
        some = "; ".join(differences[:_MOST_DIFFERENCES])
        more = len(differences) - _MOST_DIFFERENCES
        raise DamagedError(
            f"{subject} is not what was sealed: {some}{f'; and {more} more' if more > 0 else ''}. "
            "Copy it again, or serve another step"
        )


def manifest_path(folder: Path) -> Path:
    """Returns where the manifest of a checkpoint's folder is, or would be; links are followed first."""
    folder = folder.resolve()
    return folder.with_name(folder.name + SUFFIX)


def read_manifest(folder: Path, *, subject: str) -> Manifest | None:
    """Returns the manifest of a checkpoint; None if it is not sealed.

    Raises:
        DamagedError: the manifest is not what `write_manifest` wrote.
        CheckpointError: it cannot be read.
    """
    path = manifest_path(folder)
    try:
        raw = json.loads(path.read_bytes())
        version = raw[_FORMAT]
        if version == _VERSION:
            return _parse(raw)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise CheckpointError(f"{subject} is sealed, but {path} cannot be read: {error.strerror}") from None
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError):
        raise DamagedError(
            f"{subject} is sealed, but {path} is damaged: copy that file again, or, if you know the checkpoint to be "
            "whole, delete it and seal again"
        ) from None
    raise DamagedError(
        f"{subject} is sealed, but {path} is of version {version!r}, and this server knows {_VERSION}: install a newer "
        "fluoroscope, or, if you know the checkpoint to be whole, delete that file and seal again"
    )


def write_manifest(folder: Path, manifest: Manifest, *, subject: str) -> Path:
    """Writes the manifest of a checkpoint whole or not at all, so that it outlives a crash; returns where it is.

    Raises:
        CheckpointError: it cannot be written.
    """
    path = manifest_path(folder)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    files = {name: {"bytes": each.byte_size, "sha256": each.sha256} for name, each in manifest.files.items()}
    links = {"links": dict(manifest.links)} if manifest.links else {}
    text = json.dumps({_FORMAT: _VERSION, "digest": manifest.digest, "files": files, **links}, indent=1) + "\n"
    try:
        with contextlib.ExitStack() as undo:
            undo.callback(temporary.unlink, missing_ok=True)
            with temporary.open("xb") as file:
                file.write(text.encode())
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        raise CheckpointError(
            f"{subject} cannot be sealed: {path} cannot be written: {error.strerror}. Nothing was left there"
        ) from None
    return path


def stray_manifests(root: Path) -> list[Path]:
    """Returns the manifests in a folder whose checkpoints are gone, as a trainer deletes them."""
    return [path for path in sorted(root.glob(f"*{SUFFIX}")) if not path.with_name(path.name[: -len(SUFFIX)]).exists()]


def _parse(raw: Any) -> Manifest:
    files = {
        str(path): FileDigest(byte_size=int(each["bytes"]), sha256=str(each["sha256"]))
        for path, each in raw["files"].items()
    }
    links = {str(path): str(target) for path, target in raw.get("links", {}).items()}
    manifest = Manifest(files=files, links=links)
    if manifest.digest != raw["digest"]:
        raise ValueError("the digest of the manifest is another")
    return manifest


def _difference(path: str, sealed: FileDigest | None, found: FileDigest | None) -> str:
    if sealed is None:
        return f"file {path!r} was not there"
    if found is None:
        return f"file {path!r} is missing"
    if sealed.byte_size != found.byte_size:
        return f"file {path!r} has {found.byte_size:,} bytes instead of {sealed.byte_size:,}"
    return f"file {path!r} has other bytes" if sealed.sha256 != found.sha256 else ""


def _turn(path: str, sealed: str | None, found: str | None) -> str:
    if sealed is None:
        return f"link {path!r} was not there"
    if found is None:
        return f"link {path!r} is missing"
    return f"link {path!r} leads to {found!r} instead of {sealed!r}" if sealed != found else ""


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
