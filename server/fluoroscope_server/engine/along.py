"""Equations that act along an axis: what they give at one place of it may depend on other places.

Whatever is not named here does, for all that is known.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

from fluoroscope_server.engine import jaxprs

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    import jax.extend.core as jex

    Rule = Callable[[jex.JaxprEqn, int, int, tuple[int, ...]], bool]


def acts_along(equation: jex.JaxprEqn, position: int, axis: int) -> bool:
    """Returns whether an equation may act along an axis of one of its inputs, where it keeps the axis.

    Args:
        equation: the equation.
        position: which of its inputs.
        axis: which axis of that.
    """
    name = equation.primitive.name
    if name in _ELEMENTWISE or name in _ELSEWHERE or name in PASSING:
        return False
    rule = next((rule for prefix, rule in _RULES.items() if name.startswith(prefix)), None)
    known = jaxprs.shape_and_dtype(equation.invars[position])
    return rule is None or known is None or rule(equation, position, axis, known[0])


def is_alike(before: jex.JaxprEqn, after: jex.JaxprEqn) -> bool:
    """Returns whether an equation does the same for two batch sizes, but for what follows from the sizes."""
    first = [jaxprs.growing_axes(*pair) for pair in zip(before.invars[:1], after.invars[:1], strict=True)]
    made = [jaxprs.growing_axes(*pair) for pair in zip(before.outvars[:1], after.outvars[:1], strict=True)]
    return all(
        _is_same(name, before.params.get(name), value, made if name == "reps" else first)
        for name, value in after.params.items()
    )


def _is_same(name: str, old: Any, new: Any, growing: Sequence[Collection[int]]) -> bool:
    if name.endswith(_SHAPES) or jaxprs.is_code(new):
        return True
    if name in _BY_AXIS and isinstance(old, tuple) and isinstance(new, tuple):
        pairs = enumerate(zip(old, new, strict=False))
        return all(one == other or any(axis in axes for axes in growing) for axis, (one, other) in pairs)
    return bool(old == new) or repr(old) == repr(new)  # NaN is not equal to itself


def divides(equation: jex.JaxprEqn, axis: int, made: int) -> bool:
    """Returns whether a reshape only divides the places of an axis, or joins others to them, and leaves their order.

    Args:
        equation: the reshape.
        axis: which axis of its input.
        made: which axis of what it makes has those places.
    """
    (before, *_), (after,) = equation.invars, equation.outvars
    return math.prod(jaxprs.shape_of(before)[:axis]) == math.prod(jaxprs.shape_of(after)[:made])


def repeats(equation: jex.JaxprEqn, axes: Sequence[int]) -> bool:
    """Returns whether what an equation makes is the same at each place of some axes, which its inputs do not have."""
    name, params = equation.primitive.name, equation.params
    if name == "iota":
        return params["dimension"] not in axes
    if name == "tile":
        return all(jaxprs.shape_of(equation.invars[0])[axis] == 1 for axis in axes)
    if name == "concatenate":
        one = equation.invars[0]
        return all(each is one for each in equation.invars) and all(jaxprs.shape_of(one)[axis] == 1 for axis in axes)
    return name == "broadcast_in_dim"


def _window(equation: jex.JaxprEqn, _: int, axis: int, __: tuple[int, ...]) -> bool:
    params = equation.params
    if "window_dimensions" not in params:
        return True
    ones = ("window_dimensions", "window_strides", "base_dilation", "window_dilation")
    moved = any(params[name][axis] != 1 for name in ones if name in params)
    return moved or tuple(params["padding"][axis]) != (0, 0)


def _convolution(equation: jex.JaxprEqn, position: int, axis: int, shape: tuple[int, ...]) -> bool:
    """Along an axis of the image, unless each place of it is looked at alone."""
    params = equation.params
    image, kernel, _ = params["dimension_numbers"]
    if position > 0 or axis not in image[2:]:
        return position > 0 or bool(axis != image[0]) or params["batch_group_count"] != 1
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
    moved = {*numbers.inserted_window_dims, *numbers.scatter_dims_to_operand_dims} - {*numbers.operand_batching_dims}
    left = {*numbers.inserted_window_dims, *numbers.operand_batching_dims}
    whole, part = (jaxprs.shape_of(equation.invars[place]) for place in (0, 2))
    window = dict(
        zip((each for each in range(len(whole)) if each not in left), numbers.update_window_dims, strict=True)
    )
    if position == 0:
        return axis in moved or (axis in window and part[window[axis]] != whole[axis])
    if position == 1 or axis not in numbers.update_window_dims:
        return True
    return next(mine for mine, theirs in window.items() if theirs == axis) in moved


def _slice(equation: jex.JaxprEqn, _: int, axis: int, shape: tuple[int, ...]) -> bool:
    params = equation.params
    step = params["strides"][axis] if params["strides"] else 1
    return (params["start_indices"][axis], params["limit_indices"][axis], step) != (0, shape[axis], 1)


def _matrix(_: jex.JaxprEqn, __: int, axis: int, shape: tuple[int, ...]) -> bool:
    return axis >= len(shape) - 2


def _top(equation: jex.JaxprEqn, _: int, axis: int, shape: tuple[int, ...]) -> bool:
    return bool(axis == equation.params.get("axis", -1) % len(shape))


def _update(equation: jex.JaxprEqn, _: int, axis: int, __: tuple[int, ...]) -> bool:
    whole, part = map(jaxprs.shape_of, equation.invars[:2])
    return whole[axis] != part[axis]


_SHAPES: Final = ("shape", "new_sizes", "sharding")
"""How parameters are called that say what the results' shapes say, or where they lie."""

_BY_AXIS: Final = frozenset({"limit_indices", "padding_config", "reps", "slice_sizes", "start_indices"})
"""Parameters with an entry for each axis: of the first input, but for `reps`, which says of the result."""

PASSING: Final = frozenset(
    {
        *("copy", "device_put", "layout_constraint", "mesh_cast", "name", "optimization_barrier", "pvary"),
        *("reshard", "sharding_constraint", "stop_gradient"),
    }
)
"""What hands each of its inputs on, as it is."""

_ELEMENTWISE: Final = frozenset(
    {
        *("abs", "acos", "acosh", "add", "add_any", "and", "asin", "asinh", "atan", "atan2", "atanh"),
        *("bessel_i0e", "bessel_i1e", "bitcast_convert_type", "cbrt", "ceil", "clamp", "clz", "complex", "conj"),
        *("convert_element_type", "cos", "cosh", "digamma", "div", "eq", "eq_to", "erf", "erf_inv", "erfc", "exp"),
        *("exp2", "expm1", "floor", "ge", "gt", "igamma", "igamma_grad_a", "igammac", "imag", "integer_pow"),
        *("is_finite", "le", "le_to", "lgamma", "log", "log1p", "logistic", "lt", "lt_to", "max", "min", "mul"),
        *("mulhi", "ne", "neg", "nextafter", "not", "or", "polygamma", "population_count", "pow", "real"),
        *("reduce_precision", "regularized_incomplete_beta", "rem", "round", "rsqrt", "select_n", "shift_left"),
        *("shift_right_arithmetic", "shift_right_logical", "sign", "sin", "sinh", "sqrt", "square", "sub", "tan"),
        *("tanh", "xor", "zeros_like", "zeta"),
    }
)
"""What computes each element from the same element of its inputs."""

_ELSEWHERE: Final = frozenset(
    {
        *("argmax", "argmin", "broadcast_in_dim", "dot_general", "reduce", "reduce_and", "reduce_max"),
        *("reduce_min", "reduce_or", "reduce_prod", "reduce_sum", "reduce_xor", "squeeze", "stack", "transpose"),
        *("unstack",),
    }
)
"""What acts along axes that it does not keep, or moves them."""

_OF_MATRICES: Final = (
    *("cholesky", "eig", "geqp3", "geqrf", "hessenberg", "householder", "lu", "ormqr", "qr", "schur", "svd"),
    *("symmetric_product", "triangular_solve", "tridiagonal"),
)
"""What takes matrices whole: the last two axes."""

_RULES: Final[dict[str, Rule]] = {
    "sort": lambda equation, _, axis, __: equation.params["dimension"] == axis,
    "cum": lambda equation, _, axis, __: equation.params["axis"] == axis,
    "rev": lambda equation, _, axis, __: axis in equation.params["dimensions"],
    "tile": lambda equation, _, axis, __: equation.params["reps"][axis] != 1,
    "reduce_window": _window,
    "select_and": _window,
    "conv_general_dilated": _convolution,
    "dot_product_attention_fwd": lambda _, __, axis, ___: axis != 0,
    "gather": _gather,
    "scatter": _scatter,
    "dynamic_slice": lambda equation, _, axis, shape: equation.params["slice_sizes"][axis] != shape[axis],
    "dynamic_update_slice": _update,
    "slice": _slice,
    "pad": lambda equation, _, axis, __: tuple(equation.params["padding_config"][axis]) != (0, 0, 0),
    "concatenate": lambda equation, _, axis, __: equation.params["dimension"] == axis,
    "split": lambda equation, _, axis, __: equation.params["axis"] == axis,
    "top_k": _top,
    "approx_top_k": lambda equation, _, axis, shape: equation.params["reduction_dimension"] % len(shape) == axis,
    "fft": _fourier,
    **dict.fromkeys(_OF_MATRICES, _matrix),
}
"""For the beginning of a primitive's name, whether it acts along an axis: `(equation, which input, axis, shape)`."""
