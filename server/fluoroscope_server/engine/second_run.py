"""A second run of a network, on other inputs, inside the same program: where patches from other inputs come from."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fluoroscope_server.engine import jaxprs

if TYPE_CHECKING:
    from collections.abc import Sequence

    import jax.extend.core as jex

    from fluoroscope_server.engine.flat import FlatNetwork
    from fluoroscope_server.engine.loop import Loop
    from fluoroscope_server.engine.naming import NamedValue


class SecondRun:
    """The equations of a network once more, no further than somebody wants them."""

    def __init__(self, flat: FlatNetwork, inputs: Sequence[jex.Var], wanted: Sequence[NamedValue]) -> None:
        """Takes the network, those of its inputs that are others in this run, and all values that will be asked for."""
        self.inputs = jaxprs.variables_of([jaxprs.structure(variable) for variable in inputs])
        """The inputs of this run, which are inputs of the whole program."""
        self._flat = flat
        self._known: dict[jex.Var, jaxprs.Atom] = dict(zip(inputs, self.inputs, strict=True))
        self._numbers = {loop: number for number, loop in flat.loops.items()}
        self._written: set[int] = set()
        self._wanted: dict[Loop, list[jaxprs.Atom]] = {}
        self._stacked: dict[jaxprs.Atom, jaxprs.Atom] = {}
        for value in wanted:
            for loop in value.loops:
                self._wanted.setdefault(loop, []).append(value.atom)

    def value(self, value: NamedValue) -> tuple[list[jex.JaxprEqn], jaxprs.Atom]:
        """Returns what must still be computed for a value of this run, and the value; of a loop's, all iterations."""
        if not value.loops:
            equations = self._write(self._flat.jaxpr.needed([value.atom]))
            return equations, jaxprs.read(value.atom, self._known)
        (loop,) = value.loops  # values in loops within loops are refused before
        needed = self._flat.jaxpr.needed(loop.inputs, also=[self._numbers[loop]])
        return self._write(needed), self._stacked[value.atom]

    def _write(self, numbers: Sequence[int]) -> list[jex.JaxprEqn]:
        equations: list[jex.JaxprEqn] = []
        for number in numbers:
            if number in self._written:
                continue
            self._written.add(number)
            loop = self._flat.loops.get(number)
            if loop is not None and loop in self._wanted:
                equations += self._write_loop(loop)
            else:
                equations.append(jaxprs.renamed(self._flat.jaxpr.equations[number], self._known))
        return equations

    def _write_loop(self, loop: Loop) -> list[jex.JaxprEqn]:
        """Writes a loop that gives wanted values of its body, too."""
        wanted = self._wanted[loop]
        inputs = [jaxprs.read(atom, self._known) for atom in loop.inputs]
        equations, outputs = jaxprs.written(loop.function(wanted), inputs)
        own = len(loop.outputs)
        self._known.update(zip(loop.outputs, outputs[:own], strict=True))
        self._stacked.update(zip(wanted, outputs[own:], strict=True))
        return equations
