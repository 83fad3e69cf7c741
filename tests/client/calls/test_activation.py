"""Activations, from the results of a stream."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from fluoroscope import (
    Activation,
    Correlation,
    CorruptStreamError,
    Covariance,
    DeadUnits,
    Full,
    Histogram,
    Mean,
    Norm,
    Quantiles,
    Statistics,
    TopK,
)
from fluoroscope.calls.parts import last_parts
from fluoroscope.calls.reduction import FROM_WIRE, reduction_from_wire
from fluoroscope.v1 import inspection_pb2, tensor_pb2
from fluoroscope.v1.inspection_pb2 import ResultHeader, Summary
from fluoroscope.wire import StreamResult, dtype_to_wire

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fluoroscope import (
        Reduction,
    )

ASKED: list[Reduction[Any]] = [
    Full(),
    Statistics(),
    Histogram(bins=50),
    Histogram(bins=50, low=0.1, high=7),
    Histogram(bins=3, low=0),
    Quantiles(0.05, 0.5),
    Norm(),
    Norm(axes=-1, order=1),
    Norm(axes=[0, 2], order=math.inf),
    Mean(axes=1),
    TopK(10),
    DeadUnits(),
    Covariance(),
    Correlation(),
]


@pytest.mark.parametrize("reduction", ASKED, ids=repr)
def test_a_reduction_there_and_back(reduction: Reduction[Any]) -> None:
    found = reduction_from_wire(inspection_pb2.Reduction.FromString(reduction.message().SerializeToString()))
    assert found == reduction
    assert hash(found) == hash(reduction)


def test_every_reduction_has_an_example_above() -> None:
    assert {each.message().WhichOneof("reduction") for each in ASKED} == set(FROM_WIRE)
    assert len(set(ASKED)) == len(ASKED)


def results(
    reduction: Reduction[Any], *parts: tuple[str, np.ndarray], shape: Sequence[int] = (4, 3)
) -> list[StreamResult]:
    headers = [
        ResultHeader(
            site="Dense_0",
            kind=inspection_pb2.SITE_KIND_MODULE,
            reduction=reduction.message(),
            part=part,
            data_type=dtype_to_wire(array.dtype),
            shape=array.shape,
            value_shape=shape,
            value_data_type=tensor_pb2.DATA_TYPE_FLOAT32,
        )
        for part, array in parts
    ]
    return [
        StreamResult(index=index, header=header, array=parts[index][1], summary=None)
        for index, header in enumerate(headers)
    ]


def summary(reduction: Reduction[Any], message: Summary) -> list[StreamResult]:
    (result,) = results(reduction, ("", np.zeros(0)))
    return [StreamResult(index=0, header=result.header, array=None, summary=message)]


FLOATS = np.arange(12, dtype=np.float32).reshape(4, 3)
INTEGERS = np.arange(12, dtype=np.int32).reshape(4, 3)


def test_tensors_of_several_parts() -> None:
    activation = Activation.from_wire(results(TopK(3), ("values", FLOATS), ("indices", INTEGERS)))
    assert activation.top_k is activation[TopK(3)]
    np.testing.assert_array_equal(activation.top_k.values, FLOATS)
    np.testing.assert_array_equal(activation.top_k.indices, INTEGERS)
    assert (activation.shape, activation.dtype, Full() in activation) == ((4, 3), np.dtype(np.float32), False)


def test_int8_has_a_scale() -> None:
    eights, scale = np.array([[-127, 3]], np.int8), np.array(0.5, np.float32)
    full = Activation.from_wire(results(Full(), ("value", eights), ("scale", scale)))
    assert full.array.dtype == np.int8
    assert full.scale == 0.5
    norm = Activation.from_wire(results(Norm(), ("value", eights), ("scale", scale)))
    assert norm.norm.tolist() == [[-63.5, 1.5]]
    assert norm.norm.dtype == np.float32
    assert norm.scale is None
    one = Activation.from_wire(results(Norm(axes=()), ("value", eights[0, 1]), ("scale", scale)))
    assert isinstance(one.norm, np.ndarray), "a number is an array, too"
    assert (one.norm.shape, one.norm.item()) == ((), 1.5)
    parts = (("values", eights), ("values_scale", scale), ("indices", INTEGERS[:1, :2]))
    top = Activation.from_wire(results(TopK(2), *parts)).top_k
    assert top.values.tolist() == [[-63.5, 1.5]]
    assert top.indices.dtype == np.int32


def test_samples_are_all_but_the_last_axis() -> None:
    dead = Activation.from_wire(results(DeadUnits(), ("", np.int32([20, 0, 19])), shape=(4, 5, 3))).dead_units  # type: ignore[arg-type]  # an array
    assert (dead.sample_count, dead.count, dead.indices.tolist()) == (20, 1, [0])
    assert dead.zero_fractions.tolist() == [1.0, 0.0, 0.95]


def test_nothing_is_lost_when_results_of_a_site_come_together() -> None:
    def histogram(bins: int) -> Activation:
        message = Summary(histogram=inspection_pb2.Histogram(low=0, high=bins, counts=[1] * bins))
        return Activation.from_wire(summary(Histogram(bins=bins), message))

    full = Activation.from_wire(results(Full(), ("value", INTEGERS.astype(np.int8)), ("scale", np.float32(2))))  # type: ignore[arg-type]  # as an array
    for order in itertools.permutations([histogram(3), histogram(5), full]):
        first, *others = order
        for other in others:
            first = first.merged(other)
        assert set(first.results) == {Histogram(bins=3), Histogram(bins=5), Full()}
        assert first.scale == 2
        assert len(first[Histogram(bins=5)].counts) == 5
        with pytest.raises(ValueError, match=r"2 of a kind were asked for of 'Dense_0'; say which: activation\["):
            _ = first.histogram
    with pytest.raises(
        LookupError, match=r"no Histogram of 'Dense_0' was asked for, but Full\(\): ask for it with reduce="
    ):
        _ = full.histogram
    with pytest.raises(KeyError, match=r"Histogram\(bins=9, .*\) of 'Dense_0' was not asked for, but Full\(\)"):
        _ = full[Histogram(bins=9)]


def test_an_activation_is_like_a_mapping_of_what_was_asked_for() -> None:
    full, norm = (Activation.from_wire(results(each, ("", FLOATS))) for each in (Full(), Norm()))
    both = full.merged(norm)
    assert list(both) == [Full(), Norm()]
    assert Norm() in both
    assert Norm() not in full
    assert Norm not in both


def test_quantiles_are_like_a_mapping_from_probabilities() -> None:
    message = Summary(quantiles=inspection_pb2.Quantiles(values=[1.0, 2.0]))
    found = Activation.from_wire(summary(Quantiles(0.1, 0.5), message))[Quantiles(0.1, 0.5)]
    assert {each: found[each] for each in found} == {0.1: 1.0, 0.5: 2.0}
    assert 0.5 in found
    assert 0.9 not in found


def test_what_was_not_asked_for_is_corrupt() -> None:
    wrong = Summary(quantiles=inspection_pb2.Quantiles(values=[1.0]))
    with pytest.raises(CorruptStreamError, match="no statistics of 'Dense_0' came"):
        Activation.from_wire(summary(Statistics(), wrong))
    with pytest.raises(CorruptStreamError, match="1 quantiles came for 2 probabilities"):
        Activation.from_wire(summary(Quantiles(0.1, 0.2), wrong))
    with pytest.raises(CorruptStreamError, match="no tensor 'indices' of 'Dense_0' came"):
        Activation.from_wire(results(TopK(3), ("values", FLOATS)))
    with pytest.raises(CorruptStreamError, match="no tensor of 'Dense_0' came"):
        Activation.from_wire(summary(Full(), wrong))
    (unknown,) = results(Full(), ("", FLOATS))
    unknown.header.ClearField("reduction")
    with pytest.raises(CorruptStreamError, match="reduced a value by nothing, which nobody asked for"):
        Activation.from_wire([unknown])
    (untyped,) = results(Full(), ("", FLOATS))
    untyped.header.ClearField("value_data_type")
    with pytest.raises(CorruptStreamError, match="the header announces a value wrongly: data_type is not set"):
        Activation.from_wire([untyped])


def test_which_parts_are_the_last() -> None:
    def header(site: str, reduction: Reduction[Any], part: str) -> ResultHeader:
        return ResultHeader(site=site, reduction=reduction.message(), part=part)

    headers = [
        header("a", Full(), ""),
        header("a", TopK(1), "values"),
        header("a", TopK(1), "indices"),
        header("a", TopK(2), "values"),
        header("a", TopK(2), "indices"),
        header("a", TopK(2), "values"),  # the same, of another slice
        header("a", TopK(2), "values_scale"),
        header("a", TopK(2), "indices"),
        header("b", TopK(2), "values"),
        header("b", TopK(2), "indices"),
        header("b", Full(), "value"),
        header("b", Full(), "scale"),
        header("b", Statistics(), ""),
        header("b", Statistics(), ""),
    ]
    assert list(last_parts(headers)) == [each in {0, 2, 4, 7, 9, 11, 12, 13} for each in range(14)]
    assert list(last_parts([])) == []
