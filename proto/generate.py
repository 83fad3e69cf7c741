"""Generates client/fluoroscope/v1 from the .proto files; with --check, says whether it is current.

Run by `make generate` and `make check`. The generator's version is pinned in pyproject.toml,
because generated code refuses to run on a protobuf or grpcio older than its generator.
"""

from __future__ import annotations

import argparse
import filecmp
import sys
import tempfile
from importlib import resources
from pathlib import Path

from grpc_tools import protoc

PROTO = Path(__file__).resolve().parent
TARGET = PROTO.parent / "client"
PACKAGE = Path("fluoroscope/v1")


def generate(target: Path) -> None:
    """Writes messages, stubs and their types under `target`; raises SystemExit if protoc fails."""
    sources = sorted(str(path.relative_to(PROTO)) for path in (PROTO / PACKAGE).glob("*.proto"))
    well_known = resources.files("grpc_tools") / "_proto"
    outputs = [f"--{kind}_out={target}" for kind in ("python", "grpc_python", "mypy", "mypy_grpc")]
    status = protoc.main(["protoc", f"-I{PROTO}", f"-I{well_known}", *outputs, *sources])
    if status != 0:
        raise SystemExit(status)
    (target / PACKAGE / "__init__.py").write_text(
        '"""Generated from proto/fluoroscope/v1 by `make generate`. Never edited."""\n'
    )


def stale_files(fresh: Path, committed: Path) -> list[str]:
    """Returns the names of the files that differ between two folders, or are in one only."""
    names = {path.name for folder in (fresh, committed) for path in folder.glob("*.py*") if path.is_file()}
    _, mismatched, missing = filecmp.cmpfiles(fresh, committed, sorted(names), shallow=False)
    return sorted([*mismatched, *missing])


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if the code is not current")
    if not parser.parse_args().check:
        generate(TARGET)
        return
    with tempfile.TemporaryDirectory() as folder:
        generate(Path(folder))
        stale = stale_files(Path(folder) / PACKAGE, TARGET / PACKAGE)
    if stale:
        sys.exit(f"generated code is not current: {', '.join(stale)}; run `make generate` and commit the result")


if __name__ == "__main__":
    main()
