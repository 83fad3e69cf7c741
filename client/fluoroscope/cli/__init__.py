"""The command line: `fluoroscope predict`, `inspect`, `sites` and `models`."""

from fluoroscope.cli.group import main

__all__ = ["main"]
