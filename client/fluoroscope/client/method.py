"""What the methods of both faces have in common: the words and the signatures of their operations."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_SELF = inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD)


def dress(
    method: Callable[..., object],
    operation: Callable[..., object],
    *,
    returns: str = "{}",
    words: str | None = None,
) -> None:
    """Gives a method the words and the signature of its operation, for `help` and for editors.

    Args:
        method: The method of a client.
        operation: The operation of `fluoroscope.calls` that it runs.
        returns: What the method returns, as an annotation; `{}` stands for the operation's own result.
        words: What the method does, where the operation's own words do not say it.
    """
    signature = inspect.signature(operation)
    result = str(signature.return_annotation).removeprefix("Steps[").removesuffix("]")
    method.__name__ = operation.__name__
    method.__doc__ = words or operation.__doc__
    dressed = signature.replace(
        parameters=[_SELF, *signature.parameters.values()], return_annotation=returns.format(result)
    )
    setattr(method, "__signature__", dressed)  # noqa: B010  # the types of functions do not know it
