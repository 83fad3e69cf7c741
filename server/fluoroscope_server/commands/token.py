"""`fluoroscope-server token`: makes a token for a client, and its entry for the server."""

from __future__ import annotations

from datetime import UTC, datetime

import click

from fluoroscope_server.errors import SettingsError
from fluoroscope_server.keys import Scope, entry_of, new_token
from fluoroscope_server.settings import check_name

EPILOG = """\b
Examples:
  fluoroscope-server token dashboard --scope predict --model digits >> tokens.toml
  fluoroscope-server serve --model digits=checkpoints/digits --tokens tokens.toml
"""


@click.command(epilog=EPILOG)
@click.argument("name")
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    required=True,
    type=click.Choice([scope.value for scope in Scope]),
    help="What its holder may do. May be given several times.",
)
@click.option(
    "--model",
    "models",
    multiple=True,
    metavar="MODEL",
    help="For this model alone. May be given several times.  [default: all models]",
)
@click.option(
    "--expires", type=click.DateTime(["%Y-%m-%d"]), metavar="YYYY-MM-DD", help="Good until that day begins (UTC)."
)
def token(name: str, *, scopes: tuple[str, ...], models: tuple[str, ...], expires: datetime | None) -> None:
    """Makes a token, and shows it this once.

    NAME is what the server calls its holder. The entry for the server's file of tokens, in which there is only a hash,
    goes to standard output; the token itself goes to standard error.
    """
    for model in models:
        try:
            check_name("model", model)
        except SettingsError as error:
            raise click.UsageError(f"--model: {error.message}") from None
    if expires is not None and expires.replace(tzinfo=UTC) <= datetime.now(UTC):
        raise click.UsageError(f"--expires: {expires:%Y-%m-%d} has begun; expected a day that has not.")
    secret = new_token()
    click.echo(f"fluoroscope-server: the token of {name}, shown this once:", err=True)
    click.echo(secret, err=True)
    click.echo(entry_of(secret, name, scopes, models, expires))
