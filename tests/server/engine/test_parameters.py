"""Parameters: each leaf of the variables is a site, read as it is or reduced as any other value."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from flax import nnx

from fluoroscope_server.engine import (
    Capture,
    Cast,
    Engine,
    Full,
    Histogram,
    Quantiles,
    SiteKind,
    Slice,
    Statistics,
    TopK,
    paired,
    read,
)
from fluoroscope_server.errors import InvalidRequestError, NotFoundError
from fluoroscope_server.families.nnx import nnx_network

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.server.engine.conftest import Lab

    from fluoroscope_server.errors import FluoroscopeError
    from fluoroscope_server.model_config import ModelConfig


class Net(nn.Module):
    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        for _ in range(3):
            x = nn.relu(nn.Dense(4)(x))
        x = nn.BatchNorm(use_running_average=True, name="norm")(x)
        return nn.Dense(3, param_dtype=jnp.bfloat16, dtype=jnp.float32)(x)


@pytest.fixture(scope="module")
def lab(linen_lab: Callable[..., Lab]) -> Lab:
    return linen_lab(Net())


def ask(lab: Lab, *captures: Capture) -> dict[tuple[str, str | None], Any]:
    """Returns the results of a question, by path and the name of the reduction."""
    inspection = lab.engine.inspect_parameters(captures)
    program = lab.engine.program(inspection.plan).result(60)
    arrays = [each for stage in lab.engine.run(program, (), inspection) for each in stage]
    return {
        (spec.name, type(spec.reduction).__name__): read(spec, each)
        for spec, each in paired(inspection.results, arrays)
    }


def leaves(lab: Lab) -> dict[str, np.ndarray]:
    return {
        "/".join(str(key.key) for key in path): np.asarray(leaf)
        for path, leaf in jax.tree_util.tree_leaves_with_path(lab.variables)
    }


def test_every_leaf_is_a_site(lab: Lab) -> None:
    sites = list(lab.engine.parameters)
    want = leaves(lab)
    assert [site.path for site in sites] == list(want)
    assert {"params/Dense_0/kernel", "params/norm/scale", "batch_stats/norm/mean"} <= set(want)
    for site in sites:
        assert (site.kind, site.shape, site.dtype) == (
            SiteKind.PARAMETER,
            want[site.path].shape,
            want[site.path].dtype,
        )
        assert (site.bytes_per_example, site.flops_fraction, site.batch_axis) == (want[site.path].nbytes, 0.0, None)
    assert not {site.path for site in lab.engine.sites} & set(want)  # they are no part of the network's own list


def test_whole_leaves_need_no_compiler(lab: Lab) -> None:
    before = len(lab.compiled)
    found = ask(lab, Capture(sites=("**",)))
    assert len(lab.compiled) == before
    assert [path for path, _ in found] == list(leaves(lab))
    for (path, _), array in found.items():
        np.testing.assert_array_equal(array, leaves(lab)[path], strict=True)


def test_reductions_slices_and_casts_are_those_of_numpy(lab: Lab) -> None:
    kernels = Capture(
        sites=("params/*/kernel",),
        reductions=(Full(), Statistics(), Histogram(bins=4, low=-1.0, high=1.0), Quantiles(probabilities=(0.5,))),
    )
    cast = Capture(sites=("params/Dense_1/*",), reductions=(Cast(reduction=Full(), dtype=np.dtype("float16")),))
    top = Capture(sites=("params/Dense_0/kernel",), slices=(Slice(axis=0, start=1, stop=3),), reductions=(TopK(k=2),))
    found = ask(lab, kernels, cast, top)
    for path, leaf in leaves(lab).items():
        if not path.endswith("kernel") or path.startswith("batch_stats"):
            continue
        exact = leaf.astype(np.float64)
        statistics = found[path, "Statistics"]
        assert (statistics.count, statistics.min, statistics.max) == (exact.size, exact.min(), exact.max())
        assert statistics.mean == pytest.approx(exact.mean(), rel=1e-5)
        assert statistics.std == pytest.approx(exact.std(), rel=1e-5)
        histogram = found[path, "Histogram"]
        np.testing.assert_array_equal(histogram.counts, np.histogram(exact, 4, (-1, 1))[0])
        assert found[path, "Quantiles"].values[0] == pytest.approx(np.median(exact), rel=1e-6)
        np.testing.assert_array_equal(found[path, "Full"], leaf)
    for name in ("bias", "kernel"):
        want = leaves(lab)[f"params/Dense_1/{name}"].astype(np.float16)
        np.testing.assert_array_equal(found[f"params/Dense_1/{name}", "Cast"], want, strict=True)
    largest = np.sort(leaves(lab)["params/Dense_0/kernel"][1:3])[:, ::-1][:, :2]
    inspection = lab.engine.inspect_parameters([top])
    program = lab.engine.program(inspection.plan).result(60)
    ((values, _),) = next(iter(lab.engine.run(program, (), inspection)))
    np.testing.assert_array_equal(values, largest)


def test_leaves_that_are_alike_share_a_program_and_equal_questions_are_one(lab: Lab) -> None:
    question = [Capture(sites=("params/Dense_[0]*", "params/Dense_?/bias"), reductions=(Statistics(),))]
    before = len(lab.compiled)
    with pytest.raises(InvalidRequestError, match="matches none"):
        lab.engine.inspect_parameters(question)  # brackets are letters
    question = [Capture(sites=("params/Dense_?/*",), reductions=(Statistics(),))]
    program = lab.engine.program(lab.engine.inspect_parameters(question).plan).result(60)
    again = lab.engine.program(lab.engine.inspect_parameters(question * 2).plan).result(60)
    assert again is program
    assert len(lab.compiled) == before + 1
    assert len(program.stages) == program.stage_count == 8
    assert len({id(stage.executable.executable) for stage in program.stages}) == 4  # (4,), (4, 4), (3,), (4, 3)
    cost = lab.engine.cost(lab.engine.inspect_parameters(question))
    assert (cost.flops, cost.fraction, cost.stage_count) == (0.0, 0.0, 8)


def test_what_is_on_its_way_to_the_host_is_not_the_networks_own_array(lab: Lab) -> None:
    """JAX keeps an array's copy on the host as long as the array: the network's own live as long as the network."""
    inspection = lab.engine.inspect_parameters([Capture(sites=("params/norm/scale",))])
    ((given,),) = next(iter(lab.engine.run(lab.engine.program(inspection.plan).result(), (), inspection)))
    own = lab.variables["params"]["norm"]["scale"]
    assert given is not own
    assert given.unsafe_buffer_pointer() == own.unsafe_buffer_pointer()  # and nothing was copied on the device


def test_the_result_of_one_leaf_is_let_go_before_that_of_the_next_is_made(function_lab: Callable[..., Lab]) -> None:
    def network(variables: Any, inputs: dict[str, jax.Array]) -> Any:
        return inputs["x"] * sum(leaf.sum() for leaf in jax.tree.leaves(variables))

    many = function_lab(network, [np.full((7, 11, 13), index, np.float32) for index in range(9)])
    casts = Capture(sites=("*",), reductions=(Cast(reduction=Full(), dtype=np.dtype("float16")),))
    inspection = many.engine.inspect_parameters([casts])
    program = many.engine.program(inspection.plan).result(60)
    stages = many.engine.run(program, (), inspection)
    held = []
    values = []
    while (results := next(stages, None)) is not None:
        held.append(sum(array.dtype == np.float16 and array.shape == (7, 11, 13) for array in jax.live_arrays()))
        values.append(float(results[0][0][0, 0, 0]))
        del results
    assert values == list(range(9))
    assert held == [1] * 9


def test_variables_of_nnx_are_named_by_their_place_in_the_module(config: Callable[..., ModelConfig]) -> None:
    class Two(nnx.Module):
        def __init__(self, rngs: nnx.Rngs) -> None:
            self.blocks = nnx.List([nnx.Linear(4, 4, rngs=rngs), nnx.Linear(4, 2, rngs=rngs)])
            self.drop = nnx.Dropout(0.5, rngs=rngs)  # whose random state is no parameter

        def __call__(self, x: jax.Array) -> jax.Array:
            for block in self.blocks:
                x = block(x)
            return x

    network = nnx_network(nnx.eval_shape(lambda: Two(nnx.Rngs(0))), config())
    variables = jax.tree.map(lambda leaf: jnp.ones(leaf.shape, leaf.dtype), network.variables)
    paths = [site.path for site in Engine(network, variables, buckets=(4,)).parameters]
    assert paths == ["blocks/0/bias", "blocks/0/kernel", "blocks/1/bias", "blocks/1/kernel"]


def test_odd_trees_have_names_too(function_lab: Callable[..., Lab]) -> None:
    def network(variables: Any, inputs: dict[str, jax.Array]) -> Any:
        return inputs["x"] + variables["a/b"] * variables["a"]["b"] * variables["few"].astype(jnp.float32)

    tree = {"a": {"b": np.float32(2)}, "a/b": np.float32(3), "few": np.ones((), ml_dtypes.bfloat16)}
    odd = function_lab(network, tree)
    found = {path: float(value) for (path, _), value in ask(odd, Capture(sites=("**",))).items()}
    assert found == {"a/b": 2.0, "a/b:1": 3.0, "few": 1.0}
    single = function_lab(lambda variables, inputs: inputs["x"] + variables, np.ones((1, 4), np.float32))
    assert [site.path for site in single.engine.parameters] == ["variables"]


@pytest.mark.parametrize(
    ("captures", "error", "message"),
    [
        ([], InvalidRequestError, "captures is empty; the glob '\\*\\*' names all parameters"),
        ([Capture(sites=("params/Dense_0/kernal",))], NotFoundError, "nearest: 'params/Dense_0/kernel'"),
        ([Capture(sites=("Dense_*",))], InvalidRequestError, "matches none of the 12 sites; nearest: 'params/Dense_"),
        ([Capture(sites=("params/Dense_0/bias",), slices=(Slice(axis=1),))], InvalidRequestError, "has no axis 1"),
    ],
)
def test_refusals(captures: list[Capture], error: type[FluoroscopeError], message: str, lab: Lab) -> None:
    with pytest.raises(error, match=message):
        lab.engine.inspect_parameters(captures)
