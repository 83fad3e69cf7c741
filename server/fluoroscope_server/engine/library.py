"""Calls of `jax.nn` among the equations of a jaxpr."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fluoroscope_server.engine import jaxprs

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import jax.extend.core as jex


def library_calls(equations: Sequence[jex.JaxprEqn]) -> Iterator[tuple[str | None, list[jex.JaxprEqn]]]:
    """Yields the equations in runs: those of one call of a function of `jax.nn`, with its name, or of none."""
    run: list[jex.JaxprEqn] = []
    first: jaxprs.LibraryCall | None = None
    for equation in equations:
        call = jaxprs.library_call(equation)
        if run and not _goes_on(first, run[0], call, equation):
            yield None if first is None else first.name, run
            run = []
        if not run:
            first = call
        run.append(equation)
    if run:
        yield None if first is None else first.name, run


def _goes_on(
    first: jaxprs.LibraryCall | None, begun: jex.JaxprEqn, call: jaxprs.LibraryCall | None, equation: jex.JaxprEqn
) -> bool:
    """Returns whether an equation belongs to the run that `begun` begins; one that is made just like it begins anew."""
    if first is None or call is None:
        return first is call
    again = call.lines == first.lines and equation.primitive is begun.primitive
    return (call.name, call.around) == (first.name, first.around) and not again
