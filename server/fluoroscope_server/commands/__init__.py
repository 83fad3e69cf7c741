"""The commands of the server beside `serve`, a file for each."""

from fluoroscope_server.commands.check import check
from fluoroscope_server.commands.seal import seal
from fluoroscope_server.commands.token import token

__all__ = ["check", "seal", "token"]
