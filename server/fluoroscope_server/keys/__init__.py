"""Keys: who may do what, and who sees that they do. Knows no transport."""

from fluoroscope_server.keys.caller import ANYBODY, CALLER, NOBODY, Caller, Scope, caller
from fluoroscope_server.keys.exposure import check_exposure
from fluoroscope_server.keys.token import entry_of, new_token
from fluoroscope_server.keys.tokens import Tokens
from fluoroscope_server.keys.watched import Watched

__all__ = [
    "ANYBODY",
    "CALLER",
    "NOBODY",
    "Caller",
    "Scope",
    "Tokens",
    "Watched",
    "caller",
    "check_exposure",
    "entry_of",
    "new_token",
]
