"""An authority that signs certificates, for tests: openssl does the work."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .lacking import program

if TYPE_CHECKING:
    from pathlib import Path

_CURVE = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """A certificate and its key, each in a file."""

    certificate: Path
    """PEM."""

    key: Path
    """PEM."""


class Authority:
    """Signs certificates for this machine, and for clients by their name."""

    def __init__(self, folder: Path, name: str = "authority") -> None:
        """Makes its own certificate, `root`, with openssl."""
        program("openssl", "openssl")
        self._folder = folder
        self._name = name
        self.root = folder / f"{name}.pem"
        self._key = folder / f"{name}.key"
        self._run(
            "req", "-x509", *_CURVE, "-days", "2", "-subj", f"/CN={name}", "-keyout", self._key, "-out", self.root
        )

    def issue(self, name: str) -> Pair:
        """Returns a new certificate with this common name, good for localhost as well."""
        pair = Pair(certificate=self._folder / f"{name}.pem", key=self._folder / f"{name}.key")
        request, extensions = self._folder / f"{name}.csr", self._folder / f"{name}.ext"
        extensions.write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
        self._run("req", "-new", *_CURVE, "-subj", f"/CN={name}", "-keyout", pair.key, "-out", request)
        signer: list[str | Path] = ["-CA", self.root, "-CAkey", self._key, "-CAcreateserial"]
        self._run(
            "x509", "-req", "-in", request, *signer, "-days", "2", "-extfile", extensions, "-out", pair.certificate
        )
        return pair

    def _run(self, *arguments: str | Path) -> None:
        subprocess.run(["openssl", *map(str, arguments)], cwd=self._folder, check=True, capture_output=True, timeout=60)
