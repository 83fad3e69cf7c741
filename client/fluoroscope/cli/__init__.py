"""The command line, `fluoroscope`; `group.py` has its commands."""

import os

# gRPC reads this when it is imported. Its own log lines would stand between ours on standard error.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

from fluoroscope.cli.group import main  # after the line above

__all__ = ["main"]
