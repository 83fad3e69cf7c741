"""Plans: what an inspection would bring and cost, told before it runs, and kept."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

import fluoroscope

from .conftest import BUCKETS, HIDDEN
from .saved import batch

if TYPE_CHECKING:
    from .server_process import ServerProcess


def test_a_plan_tells_what_the_inspection_brings(client: fluoroscope.Client) -> None:
    x = batch(BUCKETS[-1])
    for execution in ("fused", "staged"):
        question: dict[str, Any] = {"sites": "activations/*", "outputs": ["logits"], "execution": execution}
        plan = client.plan("tanh", {"x": x}, **question)
        found = client.inspect("tanh", {"x": x}, **question)
        arrays: dict[str, Any] = {name: each.array for name, each in found.items()} | found.outputs
        assert [each.site for each in plan.results] == list(arrays)
        assert [each.shape for each in plan.results] == [array.shape for array in arrays.values()]
        assert plan.bytes == sum(array.nbytes for array in arrays.values())
        assert (plan.stages, plan.program.flops) == (found.program.stages, found.program.flops)
        assert plan.flops_fraction == pytest.approx(2.0)  # the network once for the sites, and once for its outputs
        assert plan.allowed


def test_a_plan_runs_nothing_and_compiles_only_if_asked_to(client: fluoroscope.Client, server: ServerProcess) -> None:
    def compiled() -> float:
        return server.metrics().total("fluoroscope_compile_seconds_count")

    before = compiled()
    question: dict[str, Any] = {"sites": ["activations/1", "activations/3"], "reduce": fluoroscope.Statistics()}
    plan = client.plan("swish", 3, **question)
    assert (plan.held, plan.peak_bytes, plan.bytes) == (False, None, 0)
    assert compiled() == before
    plan = client.plan("swish", 3, **question, compile=True)
    assert plan.held
    assert plan.peak_bytes is not None
    assert plan.peak_bytes > 0
    assert compiled() == before + 1
    assert not client.inspect("swish", {"x": batch(3)}, **question).program.compiled


def test_the_cost_is_that_of_the_deepest_site(client: fluoroscope.Client) -> None:
    sites = {site.path: site.flops_fraction for site in client.sites("elu", "activations/*")}
    fractions = [client.plan("elu", 4, sites=path).flops_fraction for path in sites]
    assert fractions == pytest.approx(list(sites.values()), abs=0.02)
    assert fractions == sorted(fractions)
    assert fractions[-1] == pytest.approx(1.0)
    assert len(fractions) == 2 * len(HIDDEN) + 1


def test_what_a_limit_forbids_is_told(client: fluoroscope.Client) -> None:
    plan = client.plan("tanh", 8, sites="**", max_bytes=100)
    assert not plan.allowed
    assert "the limit is 100" in plan.refusal
    with pytest.raises(fluoroscope.LimitExceededError, match="the limit is 100"):
        client.inspect("tanh", {"x": batch(8)}, sites="**", max_bytes=100)


def test_wrong_plans(client: fluoroscope.Client) -> None:
    with pytest.raises(fluoroscope.NotFoundError, match="no site 'activations/99'; nearest: 'activations/"):
        client.plan("tanh", 1, sites="activations/99")
    with pytest.raises(fluoroscope.InvalidRequestError, match="rows is 0; say how many examples"):
        client.plan("tanh", 0, sites="**")
    with pytest.raises(fluoroscope.LimitExceededError, match="the largest bucket of this model has 8"):
        client.plan("tanh", 9, sites="**")
    with pytest.raises(fluoroscope.LimitExceededError, match="the request has 2,000 edits, and the limit is"):
        client.plan("tanh", 1, sites="**", edits=[fluoroscope.Zero("**")] * 2000)
