"""Arguments that are wrong: each is refused in words before anything is sent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from fluoroscope import Gradient, Histogram, InvalidRequestError, Mean, Norm, Slice, Statistics, Survey, TopK, Zero
from fluoroscope.calls import (
    compare,
    get_model,
    inspect_activations,
    inspect_parameters,
    list_sites,
    load_model,
    plan,
    predict,
    set_label,
    wait_ready,
)
from fluoroscope.v1 import inference_pb2, inspection_pb2

if TYPE_CHECKING:
    from collections.abc import Callable

X = {"image": np.zeros((1, 4), np.float32)}
NO_NAME = "digits\udc80"
"""What Python makes of a file name of foreign bytes; no text that can be sent."""


def inspected(**arguments: Any) -> inspection_pb2.InspectActivationsRequest:  # the arguments of inspect
    with pytest.raises(StopIteration) as done:
        next(inspect_activations(**{"model": "digits", "inputs": X, "sites": "**", **arguments}))
    return inspection_pb2.InspectActivationsRequest.FromString(done.value.value.exchange.request)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"version": "200"}, r"version is '200'; expected the number of a checkpoint step"),
        ({"version": 2**63}, r"version is 9223372036854775808; expected a whole number from 0 to"),
        ({"version": -1}, r"version is -1; expected a whole number from 0"),
        ({"label": 3}, r"label is 3; expected the name of a label"),
        ({"max_bytes": 0}, r"max_bytes is 0; expected a whole number from 1"),
        ({"max_bytes": -1}, r"max_bytes is -1; expected a whole number from 1"),
        ({"max_bytes": 1e6}, r"max_bytes is 1000000.0; expected a whole number"),
        ({"kinds": [1]}, r"kinds are 1; the kinds that there are: MODULE"),
        ({"slices": (0, 0, 1)}, r"slices hold 0; expected slices such as Slice\(0, 0, 1\)"),
        ({"slices": Slice(2**40)}, r"Slice\(axis=1099511627776, .*\) cannot be asked for: Value out of range"),
        ({"gradient": "logits"}, r"gradient is 'logits'; expected one such as Gradient\("),
        ({"gradient": Gradient("logits", labels=[[1], [2, 3]])}, r"Gradient\(.*\) cannot be asked for"),
        ({"reduce": Statistics}, r"reduce is <class .*Statistics'>; expected a reduction such as Statistics\(\)"),
        ({"reduce": "statistics"}, r"reduce is 'statistics'; expected a reduction"),
        ({"sites": {"**": Statistics}}, r"reduce is <class .*Statistics'>; expected a reduction"),
        ({"reduce": TopK(1.5)}, r"k is 1\.5; expected a whole number from 1 to 4294967295"),  # type: ignore[arg-type]  # the mistake
        ({"reduce": Histogram(low=10**400)}, r"cannot be asked for: int too large"),
        ({"sites": [3]}, r"sites hold 3; expected names"),
        ({"outputs": [3]}, r"outputs hold 3; expected names"),
        ({"edits": 3}, r"edits hold 3; expected edits such as Zero"),
        ({"edits": Zero("a", slices=(0, 1))}, r"slices hold 0; expected slices such as"),  # type: ignore[arg-type]  # the mistake
        ({"execution": None}, r"there is no execution None"),
        ({"model": NO_NAME}, r"cannot be asked for: .*surrogates not allowed"),
        ({"sites": NO_NAME}, r"surrogates not allowed"),
        ({"label": NO_NAME}, r"surrogates not allowed"),
        ({"edits": Zero(NO_NAME)}, r"surrogates not allowed"),
        ({"inputs": {NO_NAME: X["image"]}}, r"input 'digits\\udc80' cannot be asked for"),
    ],
)
def test_an_inspection_that_cannot_be_asked_for(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidRequestError, match=message):
        inspected(**arguments)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: plan("digits", 2**70, sites="**"), r"rows is 1180591620717411303424; expected a whole number from 0"),
        (lambda: plan("digits", -1, sites="**"), r"rows is -1; expected a whole number from 0"),
        (lambda: plan("digits", 1, sites="**", compile="yes"), r"cannot be asked for"),  # type: ignore[arg-type]  # the mistake
        (lambda: predict(NO_NAME, X), r"surrogates not allowed"),
        (lambda: get_model(NO_NAME), r"surrogates not allowed"),
        (lambda: list_sites(NO_NAME), r"surrogates not allowed"),
        (lambda: list_sites("digits", 3), r"globs hold 3; expected names"),  # type: ignore[arg-type]  # the mistake
        (lambda: wait_ready(NO_NAME), r"surrogates not allowed"),
        (lambda: compare(NO_NAME, X, sites="**", versions=(1, 2)), r"surrogates not allowed"),
        (lambda: compare("digits", X, sites="**", versions=(1, 2**63)), r"version is 9223372036854775808"),
        (lambda: inspect_parameters("digits", max_bytes=0), r"max_bytes is 0; expected a whole number from 1"),
        (lambda: inspect_parameters("digits", version="200"), r"version is '200'"),  # type: ignore[arg-type]  # the mistake
        (lambda: load_model("digits", version=2**63), r"version is 9223372036854775808"),
        (lambda: set_label("digits", NO_NAME, 3), r"surrogates not allowed"),
    ],
)
def test_other_calls_that_cannot_be_made(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(InvalidRequestError, match=message):
        next(call())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"reduce": Statistics}, "expected a reduction such as"),
        ({"slices": (0, 0, 1)}, "expected slices such as"),
        ({"max_bytes": 0}, "max_bytes is 0"),
    ],
)
def test_a_survey_that_cannot_be_made(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidRequestError, match=message):
        Survey([], **{"reduce": Statistics(), **arguments})


@pytest.mark.parametrize("axes", [1.5, "0", [None]])
def test_axes_that_are_none(axes: Any) -> None:
    for reduction in (Norm, Mean):
        with pytest.raises(InvalidRequestError, match=r"axes .* cannot be asked for"):
            reduction(axes=axes)


def test_one_output_may_be_given_as_text() -> None:
    assert list(inspected(outputs="logits").outputs) == ["logits"]
    request = inference_pb2.PredictRequest.FromString(next(predict("digits", X, outputs="logits")).request)
    assert list(request.outputs) == ["logits"]


def test_numbers_of_numpy_are_numbers() -> None:
    one = np.int64(1)
    assert inspected(version=one, max_bytes=one, reduce=[Norm(axes=-one), TopK(one)]) == inspected(  # type: ignore[arg-type]  # as good as int
        version=1, max_bytes=1, reduce=[Norm(axes=-1), TopK(1)]
    )
    exchange = next(plan("digits", one, sites="**"))  # type: ignore[arg-type]  # as above
    assert inspection_pb2.PlanInspectionRequest.FromString(exchange.request).rows == 1
