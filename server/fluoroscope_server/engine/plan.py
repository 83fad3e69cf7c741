"""Plans: what a program must compute, as one hashable value."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fluoroscope_server.engine.reductions import Reduction


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """The part of a slice that shapes the result; where it starts is an argument of the program."""

    axis: int
    """The axis, not negative."""

    extent: int
    """How many indices from the first taken to the last, both included."""

    step: int
    """Take each step-th of them."""


class Origin(enum.Enum):
    """Where a captured value is from, and what its name is."""

    SITE = "site"
    """A site, by its path."""

    OUTPUT = "output"
    """An output of the network, by its name."""

    INPUT = "input"
    """An input of the network, by its name; only its gradient is captured."""

    PARAMETER = "parameter"
    """A parameter, by its path; only its gradient is captured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CapturedValue:
    """One site, and what becomes of its value."""

    site: str
    """The path of the site; the name of what is none."""

    cuts: tuple[Cut, ...]
    """How the value is cut, by axis."""

    reduction: Reduction
    """What is computed of what is left."""

    origin: Origin = Origin.SITE
    """Where the value is from."""


class Operation(enum.Enum):
    """What an edit computes, and what it is given for that, beside the value."""

    ZERO = "zero"
    """Zeros. Given nothing."""

    SET = "set"
    """What is given: an array of as many axes as the value."""

    ADD = "add"
    """The value and such an array together."""

    SCALE = "scale"
    """The value times such an array."""

    MEAN = "mean"
    """The mean along the batch. Given which rows count, `bool[batch]`."""

    ROWS = "rows"
    """Other rows of the value. Given which, for each, `int32[batch]`."""

    SOURCE = "source"
    """Rows of the same value in a second run of the network. Given which, for each, `int32[batch]`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedEdit:
    """One value, and what is written at it.

    Axes are those of the value. Of one in the body of a loop, the iterations are axis 0, and its own come behind that.
    Which indices are edited is a mask for each axis: an argument of the program, as is all that is written.
    """

    value: str
    """The path of the value in the flat jaxpr: the first, in execution order, of those that it has."""

    operation: Operation
    """What is computed."""

    masked: tuple[int, ...] = ()
    """The axes of which only some indices are edited."""

    varying: tuple[int, ...] = ()
    """The axes along which the array that is given differs from index to index; its others have size one."""

    batch_axis: int | None = None
    """The axis of the batch, if the operation needs it."""

    source: int | None = None
    """Which of the second runs; all edits of one run have the same number."""


class Objective(enum.Enum):
    """What scalar is made of an output, to take the gradient of."""

    LOGIT = "logit"
    """The sum of the elements that indices of the last axis choose: one for each place of the other axes."""

    CROSS_ENTROPY = "cross_entropy"
    """The sum of softmax cross-entropies along the last axis, against these indices as labels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedGradient:
    """Of what the gradient is taken. Which indices are an argument of the program, negative where none counts."""

    output: str
    """The name of the output."""

    objective: Objective
    """The scalar."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What one program computes. Equal questions are equal plans, in whatever order they were asked."""

    bucket: int
    """The batch size; 0 of a plan of parameters, for which nothing runs."""

    captured: tuple[CapturedValue, ...] = ()
    """The captured values, in execution order."""

    edits: tuple[PlannedEdit, ...] = ()
    """What is written, in the execution order of the values; at the same value, in the order of the request."""

    gradient: PlannedGradient | None = None
    """If not None, what is captured are the gradients of this scalar with respect to the values, outputs excepted."""

    staged: bool = False
    """Whether it runs in stages, so that the first values can be sent while the last are computed."""

    @property
    def of_parameters(self) -> bool:
        """Returns whether what it captures are parameters, and not activations."""
        return self.bucket == 0
