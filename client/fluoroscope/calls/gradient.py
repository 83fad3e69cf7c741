"""Gradients in place of values: of what, and with respect to what besides sites."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from fluoroscope.calls.argument import building, kept, several
from fluoroscope.calls.errors import InvalidRequestError
from fluoroscope.v1 import inspection_pb2
from fluoroscope.wire import fill_tensor

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike


@dataclass(frozen=True, slots=True, eq=False)
class Gradient:
    """What to take the gradient of: a sum over the examples, so that the gradient of each is its own.

    `Gradient("logits", index=4)` is of the logit with index 4; `Gradient("logits", labels=[3, 1])` of the softmax
    cross-entropy against a label for each example. What comes back for a site is then the gradient with respect to its
    value, as `activation.array` and in all reductions.
    """

    output: str
    """The name of the output that is summed."""

    index: ArrayLike | None = None
    """Which element of the output's last axis: one for all, or one for each example, or of the output's shape without
    its last axis. Where it is negative, nothing is summed."""

    labels: ArrayLike | None = None
    """The labels, as `index`, in place of that."""

    inputs: str | Sequence[str] = ()
    """Names and globs of inputs to take the gradient with respect to, too: they come back as sites `"inputs/NAME"`."""

    parameters: str | Sequence[str] = ()
    """Names and globs of parameters, such as `"params/Dense_0/*"`: they come back as sites of that name. Of the sum
    over the examples, not of the mean."""

    def __post_init__(self) -> None:
        """Keeps what can be gone through only once: a gradient may go with several calls."""
        for name in ("inputs", "parameters"):
            object.__setattr__(self, name, kept(getattr(self, name)))

    def message(self, reductions: Sequence[inspection_pb2.Reduction]) -> inspection_pb2.Gradient:
        """Returns the gradient as the contract says it; raises InvalidRequestError if it cannot say it.

        Args:
            reductions: What to send of the gradients with respect to inputs and parameters.
        """
        if (self.index is None) is (self.labels is None):
            raise InvalidRequestError("a gradient is of an index or of labels: give one of them", field="gradient")
        with building(self, field="gradient"):
            message = inspection_pb2.Gradient(
                output=self.output,
                inputs=several(self.inputs),
                parameters=several(self.parameters),
                reductions=reductions,
            )
            chosen = np.asarray(self.labels if self.index is None else self.index)
            fill_tensor(message.cross_entropy if self.index is None else message.logit, chosen)
        return message

    @property
    def names_more(self) -> bool:
        """Returns whether it is with respect to inputs or parameters, so that sites need not be given."""
        return bool(self.inputs or self.parameters)
