"""Generates Python from the .proto files; with --check, says whether what is committed is current.

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
TARGETS = {
    Path("fluoroscope/v1"): PROTO.parent / "client",
    Path("inference"): PROTO.parent / "server" / "fluoroscope_server" / "rpc" / "open_inference",
}
"""Where the code of each package goes. That of the Open Inference Protocol stays with the server: its names are those
of other clients' code, and one process can hold them only once."""


STUBS = {Path("fluoroscope/v1"): ("grpc_python", "mypy_grpc")}
"""What is generated besides messages: the stubs of the client."""


def generate(package: Path, target: Path) -> None:
    """Writes messages, stubs and their types of a package under `target`; raises SystemExit if protoc fails."""
    sources = sorted(str(path.relative_to(PROTO)) for path in (PROTO / package).glob("*.proto"))
    well_known = resources.files("grpc_tools") / "_proto"
    kinds = ("python", "mypy", *STUBS.get(package, ()))
    outputs = [f"--{kind}_out={target}" for kind in kinds]
    status = protoc.main(["protoc", f"-I{PROTO}", f"-I{well_known}", *outputs, *sources])
    if status != 0:
        raise SystemExit(status)
    (target / package / "__init__.py").write_text(
        f'"""Generated from proto/{package} by `make generate`. Never edited."""\n'
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
    check = parser.parse_args().check
    stale: list[str] = []
    for package, target in TARGETS.items():
        if check:
            with tempfile.TemporaryDirectory() as folder:
                generate(package, Path(folder))
                stale += stale_files(Path(folder) / package, target / package)
        else:
            generate(package, target)
    if stale:
        sys.exit(f"generated code is not current: {', '.join(stale)}; run `make generate` and commit the result")


if __name__ == "__main__":
    main()
