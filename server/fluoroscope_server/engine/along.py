"""Equations that act along an axis: what they give at one place of it may depend on other places.

Of an elementwise equation, and of one that works along other axes, nothing is here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fluoroscope_server.engine import jaxprs

if TYPE_CHECKING:
    from collections.abc import Callable

    import jax.extend.core as jex

    Rule = Callable[[jex.JaxprEqn, int, int, tuple[int, ...]], bool]


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
    return rule is not None and known is not None and rule(equation, position, axis, known[0])


def _window(equation: jex.JaxprEqn, _: int, axis: int, __: tuple[int, ...]) -> bool:
    return bool(equation.params.get("window_dimensions", {axis: 2})[axis] > 1)


def _convolution(equation: jex.JaxprEqn, position: int, axis: int, shape: tuple[int, ...]) -> bool:
    """Along an axis of the image, unless each place of it is looked at alone."""
    params = equation.params
    image, kernel, _ = params["dimension_numbers"]
    if position > 0 or axis not in image[2:]:
        return position > 0 or bool(axis != image[0])
    place = image[2:].index(axis)
    _, weights = (jaxprs.shape_and_dtype(each) for each in equation.invars)
    size = weights[0][kernel[2 + place]] if weights else shape[axis]
    moved = (params["window_strides"][place], params["lhs_dilation"][place], *params["padding"][place])
    return (size, *moved) != (1, 1, 1, 0, 0)


def _fourier(equation: jex.JaxprEqn, _: int, axis: int, shape: tuple[int, ...]) -> bool:
    return axis >= len(shape) - len(equation.params["fft_lengths"])


def _gather(equation: jex.JaxprEqn, position: int, axis: int, shape: tuple[int, ...]) -> bool:
    apart = axis in equation.params["dimension_numbers"].operand_batching_dims
    return position == 0 and not apart and equation.params["slice_sizes"][axis] != shape[axis]


def _scatter(equation: jex.JaxprEqn, position: int, axis: int, _: tuple[int, ...]) -> bool:
    numbers = equation.params["dimension_numbers"]
    chosen = (*numbers.inserted_window_dims, *numbers.scatter_dims_to_operand_dims)
    return position > 0 or (axis in chosen and axis not in numbers.operand_batching_dims)


def _slice(equation: jex.JaxprEqn, _: int, axis: int, shape: tuple[int, ...]) -> bool:
    params = equation.params
    step = params["strides"][axis] if params["strides"] else 1
    return (params["start_indices"][axis], params["limit_indices"][axis], step) != (0, shape[axis], 1)


def _matrix(_: jex.JaxprEqn, __: int, axis: int, shape: tuple[int, ...]) -> bool:
    return axis >= len(shape) - 2


def _top(equation: jex.JaxprEqn, _: int, axis: int, shape: tuple[int, ...]) -> bool:
    return bool(axis == equation.params.get("axis", -1) % len(shape))


def _always(*_: Any) -> bool:
    return True


_OF_MATRICES = (
    *("cholesky", "eig", "geqp3", "geqrf", "hessenberg", "householder", "lu", "ormqr", "qr", "schur", "svd"),
    *("triangular_solve", "tridiagonal"),
)
"""What takes matrices whole: the last two axes."""

_UNKNOWN = ("while", "cond", "custom_linear_solve", "ffi_call", "pallas_call", "ragged_dot", "shard_map")
"""What is not looked into."""

_RULES: dict[str, Rule] = {
    "sort": lambda equation, _, axis, __: equation.params["dimension"] == axis,
    "cum": lambda equation, _, axis, __: equation.params["axis"] == axis,
    "rev": lambda equation, _, axis, __: axis in equation.params["dimensions"],
    "reduce_window": _window,
    "select_and": _window,
    "conv_general_dilated": _convolution,
    "gather": _gather,
    "scatter": _scatter,
    "dynamic_slice": lambda equation, _, axis, shape: equation.params["slice_sizes"][axis] != shape[axis],
    "dynamic_update_slice": _always,
    "slice": _slice,
    "pad": lambda equation, _, axis, __: tuple(equation.params["padding_config"][axis]) != (0, 0, 0),
    "concatenate": lambda equation, _, axis, __: equation.params["dimension"] == axis,
    "split": lambda equation, _, axis, __: equation.params["axis"] == axis,
    "top_k": _top,
    "approx_top_k": lambda equation, _, axis, shape: equation.params["reduction_dimension"] % len(shape) == axis,
    "fft": _fourier,
    **dict.fromkeys(_OF_MATRICES, _matrix),
    **dict.fromkeys(_UNKNOWN, _always),
}
"""For the beginning of a primitive's name, whether it acts along an axis: `(equation, which input, axis, shape)`."""
