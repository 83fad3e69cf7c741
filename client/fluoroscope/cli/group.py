"""The command `fluoroscope`: its help, its options, and how it ends when something went wrong."""

from __future__ import annotations

import os
import sys
from io import TextIOWrapper
from typing import Any, NoReturn

import click

from fluoroscope.calls import FluoroscopeError
from fluoroscope.cli.compare import compare
from fluoroscope.cli.deployment import label, load, unload
from fluoroscope.cli.ending import INTERRUPTED, WRONG, epilog, exit_code
from fluoroscope.cli.inspect import inspect
from fluoroscope.cli.models import models
from fluoroscope.cli.params import params
from fluoroscope.cli.plan import plan
from fluoroscope.cli.predict import predict
from fluoroscope.cli.session import session_options
from fluoroscope.cli.sites import sites

_EXAMPLES = """Examples:
  fluoroscope models                                 what does the server have?
  fluoroscope models digits                          what does this model want and give?
  fluoroscope sites digits                           which places inside it can be looked at?
  fluoroscope predict digits image=@seven.png
  fluoroscope plan digits 'Dense_*' --rows 64        what would it cost to look there?
  fluoroscope inspect digits image=@x.npy 'Dense_*'
  fluoroscope inspect digits image=@x.npy --reduce statistics --json
  fluoroscope params digits 'params/**' -o weights.npz
  fluoroscope compare digits image=@x.npy --versions 100,200
  fluoroscope load digits 300                        serve this checkpoint step, too"""


class _Group(click.Group):
    """A group of commands in which expected errors are words and an exit code, never a traceback."""

    def main(self, *args: Any, **settings: Any) -> Any:  # click's own signature
        if sys.stdout is None:  # it was closed when the interpreter started
            _end_without_output("it is closed")
        if isinstance(sys.stdout, TextIOWrapper):
            sys.stdout.reconfigure(errors="backslashreplace")
        try:
            return super().main(*args, **settings)
        except OSError as error:  # of a file, whatever opened it has told
            _discard_output()
            _end_without_output(error.strerror or str(error))

    def invoke(self, ctx: click.Context) -> Any:  # click's own signature
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
        except FluoroscopeError as error:
            click.echo(f"Error: {error}", err=True)
            ctx.exit(exit_code(error))
        except KeyboardInterrupt:
            click.echo("Interrupted.", err=True)
            ctx.exit(INTERRUPTED)
        except BrokenPipeError:
            # Whoever read the output has enough, as `head` has: nothing is wrong, nothing is left to say.
            _discard_output()
            ctx.exit(0)
        return result


def _discard_output() -> None:
    """Lets standard output go nowhere: the interpreter flushes once more at its end, and must not fail then."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _end_without_output(why: str) -> NoReturn:
    click.echo(
        f"Error: standard output cannot be written: {why}. Send it to where it can be, or to /dev/null.", err=True
    )
    sys.exit(WRONG)


@click.group(
    cls=_Group,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=epilog(_EXAMPLES),
)
@session_options(outermost=True)
@click.version_option(package_name="fluoroscope", prog_name="fluoroscope")
def main() -> None:
    """Asks a fluoroscope server for predictions, and looks inside its networks while they run.

    Every command takes the options below, too, behind its name.
    """


for _command in (predict, inspect, plan, params, compare, sites, models, load, unload, label):
    main.add_command(_command)
