"""Lets `python -m fluoroscope_server` be the command line."""

from fluoroscope_server.cli import main

main(prog_name="fluoroscope-server")
