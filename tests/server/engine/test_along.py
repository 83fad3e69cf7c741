"""Which equations act along an axis of the batch, and which along another."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import pytest

from fluoroscope_server.engine.along import acts_along

ACROSS: dict[str, Any] = {
    "sort": lambda x, axis: jax.lax.sort(x, dimension=axis),
    "cumsum": lambda x, axis: jax.lax.cumsum(x, axis=axis),
    "cummax": lambda x, axis: jax.lax.cummax(x, axis=axis),
    "rev": lambda x, axis: jax.lax.rev(x, (axis,)),
    "slice": lambda x, axis: jax.lax.slice_in_dim(x, 1, None, axis=axis),
    "stride": lambda x, axis: jax.lax.slice_in_dim(x, 0, None, stride=2, axis=axis),
    "dynamic_slice": lambda x, axis: jax.lax.dynamic_slice_in_dim(x, 1, 2, axis=axis),
    "pad": lambda x, axis: jax.lax.pad(x, 0.0, [(1, 0, 0) if each == axis else (0, 0, 0) for each in (0, 1)]),
    "concatenate": lambda x, axis: jax.lax.concatenate([x, x], axis),
    "window": lambda x, axis: jax.lax.reduce_window(
        x, 0.0, jax.lax.add, tuple(2 if each == axis else 1 for each in (0, 1)), (1, 1), "SAME"
    ),
    "split": lambda x, axis: jnp.split(x, [2], axis=axis)[0],
    "gather": lambda x, axis: jnp.take(x, jnp.array([2, 0]), axis=axis),
}


def acts(function: Any, axis: int, along: int) -> bool:
    """Returns whether an equation of a function of an array and an axis acts along one of the array's axes."""
    traced = jax.make_jaxpr(lambda x: function(x, axis))(jnp.ones((4, 5)))
    (x,) = traced.jaxpr.invars
    inner = [each for equation in traced.jaxpr.eqns for each in _written_out(equation)]
    return any(
        acts_along(equation, position, along)
        for equation in inner
        for position, atom in enumerate(equation.invars)
        if atom.aval.shape == x.aval.shape
    )


def _written_out(equation: Any) -> list[Any]:
    called = equation.params.get("jaxpr")
    return [equation] if called is None else [each for one in called.jaxpr.eqns for each in _written_out(one)]


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("name", ACROSS)
def test_along_its_axis_and_not_along_the_other(name: str, axis: int) -> None:
    assert acts(ACROSS[name], axis, axis)
    assert not acts(ACROSS[name], axis, 1 - axis)


@pytest.mark.parametrize("function", [jnp.sin, lambda x: x @ jnp.ones((5, 2)), lambda x: x.sum(1), jax.nn.softmax])
def test_what_keeps_rows_apart(function: Any) -> None:
    assert not acts(lambda x, _: function(x), 0, 0)


def test_a_convolution_acts_along_all_axes_but_that_of_the_batch() -> None:
    x, kernel = jnp.ones((4, 5, 5, 2)), jnp.ones((3, 3, 2, 2))
    traced = jax.make_jaxpr(
        lambda x: jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
    )(x)
    equation = traced.jaxpr.eqns[-1]
    assert [acts_along(equation, 0, axis) for axis in range(4)] == [False, True, True, True]


@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "along"),
    [(1, 1, (0, 0), False), (2, 1, (0, 0), True), (1, 2, (0, 0), True), (1, 1, (1, 0), True)],
)
def test_a_convolution_of_places_that_are_looked_at_alone(
    kernel: int, stride: int, padding: tuple[int, int], along: bool
) -> None:
    """As NNX makes one of the batch, where an example has no axis but its features."""
    traced = jax.make_jaxpr(
        lambda x: jax.lax.conv_general_dilated(
            x, jnp.ones((kernel, 2, 2)), (stride,), [padding], dimension_numbers=("NWC", "WIO", "NWC")
        )
    )(jnp.ones((1, 4, 2)))
    assert acts_along(traced.jaxpr.eqns[-1], 0, 1) == along


def test_a_transform_acts_along_the_last_axes() -> None:
    assert acts(lambda x, _: jnp.fft.fft(x).real, 0, 1)
    assert not acts(lambda x, _: jnp.fft.fft(x).real, 0, 0)
    assert acts(lambda x, _: jnp.fft.fft2(x).real, 0, 0)


@pytest.mark.parametrize("function", [lambda x: jnp.linalg.qr(x)[0], lambda x: jax.lax.linalg.lu(x)[0], jnp.linalg.svd])
def test_what_takes_matrices_acts_along_both_axes(function: Any) -> None:
    assert acts(lambda x, _: function(x), 0, 0)
    assert acts(lambda x, _: function(x), 0, 1)


def test_matrices_of_each_example_are_kept_apart() -> None:
    traced = jax.make_jaxpr(jax.lax.linalg.cholesky)(jnp.ones((5, 3, 3)))
    matrices = next(
        each for equation in traced.jaxpr.eqns for each in _written_out(equation) if "cholesky" in str(each)
    )
    assert [acts_along(matrices, 0, axis) for axis in range(3)] == [False, True, True]


@pytest.mark.parametrize("function", [jax.lax.top_k, jax.lax.approx_max_k])
def test_the_largest_are_chosen_along_the_last_axis(function: Any) -> None:
    assert acts(lambda x, _: function(x, 2)[0], 0, 1)
    assert not acts(lambda x, _: function(x, 2)[0], 0, 0)
