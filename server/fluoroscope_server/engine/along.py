"""Equations that act along an axis: what they give at one place of it may depend on other places.

Of an elementwise equation, and of one that works along other axes, nothing is here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fluoroscope_server.engine import jaxprs

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import jax.extend.core as jex

    Rule = Callable[[Mapping[str, Any], int, int, tuple[int, ...]], bool]


def acts_along(equation: jex.JaxprEqn, position: int, axis: int) -> bool:
    """Returns whether an equation acts along an axis of one of its inputs, and keeps the axis.

    Where that is not known for sure, of a loop without a known end or of a branch, it does.

    Args:
        equation: the equation.
        position: which of its inputs.
        axis: which axis of that.
    """
    name = equation.primitive.name
    rule = next((rule for prefix, rule in _RULES.items() if name.startswith(prefix)), None)
    known = jaxprs.shape_and_dtype(equation.invars[position])
    return rule is not None and known is not None and rule(equation.params, position, axis, known[0])


def _window(params: Mapping[str, Any], _: int, axis: int, __: tuple[int, ...]) -> bool:
    return bool(params.get("window_dimensions", {axis: 2})[axis] > 1)


def _convolution(params: Mapping[str, Any], position: int, axis: int, _: tuple[int, ...]) -> bool:
    return position > 0 or bool(axis != params["dimension_numbers"].lhs_spec[0])


def _gather(params: Mapping[str, Any], position: int, axis: int, shape: tuple[int, ...]) -> bool:
    apart = axis in params["dimension_numbers"].operand_batching_dims
    return position == 0 and not apart and params["slice_sizes"][axis] != shape[axis]


def _scatter(params: Mapping[str, Any], position: int, axis: int, _: tuple[int, ...]) -> bool:
    numbers = params["dimension_numbers"]
    chosen = (*numbers.inserted_window_dims, *numbers.scatter_dims_to_operand_dims)
    return position > 0 or (axis in chosen and axis not in numbers.operand_batching_dims)


def _slice(params: Mapping[str, Any], _: int, axis: int, shape: tuple[int, ...]) -> bool:
    step = params["strides"][axis] if params["strides"] else 1
    return (params["start_indices"][axis], params["limit_indices"][axis], step) != (0, shape[axis], 1)


def _always(*_: Any) -> bool:
    return True


_RULES: dict[str, Rule] = {
    "sort": lambda params, _, axis, __: params["dimension"] == axis,
    "cum": lambda params, _, axis, __: params["axis"] == axis,
    "rev": lambda params, _, axis, __: axis in params["dimensions"],
    "reduce_window": _window,
    "select_and": _window,
    "conv_general_dilated": _convolution,
    "gather": _gather,
    "scatter": _scatter,
    "dynamic_slice": lambda params, _, axis, shape: params["slice_sizes"][axis] != shape[axis],
    "dynamic_update_slice": _always,
    "slice": _slice,
    "pad": lambda params, _, axis, __: tuple(params["padding_config"][axis]) != (0, 0, 0),
    "concatenate": lambda params, _, axis, __: params["dimension"] == axis,
    "fft": _always,
    "while": _always,
    "cond": _always,
}
"""For the beginning of a primitive's name, whether it acts along an axis: `(parameters, which input, axis, shape)`."""
