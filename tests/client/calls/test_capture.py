from __future__ import annotations

from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np
import pytest

from fluoroscope import Full, Histogram, InvalidRequestError, Mean, Norm, Slice, Statistics, TopK
from fluoroscope.calls import inspect_activations
from fluoroscope.v1 import inspection_pb2
from fluoroscope.wire import dtype_from_wire

if TYPE_CHECKING:
    from fluoroscope import Reduction
    from fluoroscope.calls import StreamCall

X = {"image": np.zeros((1, 4), np.float32)}


def request_of(**arguments: Any) -> inspection_pb2.InspectActivationsRequest:  # the arguments of inspect
    with pytest.raises(StopIteration) as done:
        next(inspect_activations("digits", X, **arguments))
    call: StreamCall[Any, Any] = done.value.value
    return inspection_pb2.InspectActivationsRequest.FromString(call.exchange.request)


def capture_of(**arguments: Any) -> inspection_pb2.Capture:  # as above
    return request_of(**arguments).captures[0]


def test_one_of_anything_may_stand_for_a_list_of_it() -> None:
    one = capture_of(sites="**", kinds="Module", reduce=Statistics(), slices=Slice(0, 1, 2))

    assert one == capture_of(sites=["**"], kinds=["MODULE"], reduce=[Statistics()], slices=[Slice(0, 1, 2)])


def test_a_generator_holds_for_every_group_of_sites() -> None:
    sites = {"Dense_*": Statistics(), "**": Norm()}
    found = request_of(sites=sites, kinds=iter(["MODULE"]), slices=(Slice(axis) for axis in (0, 1)))

    assert found == request_of(sites=sites, kinds=["MODULE"], slices=[Slice(0), Slice(1)])
    assert len(found.captures) == 2


def test_the_default_is_the_full_value_of_every_kind() -> None:
    capture = capture_of(sites="**")

    assert list(capture.reductions) == [Full().message()]
    assert not capture.kinds
    assert not capture.slices


def test_a_slice_keeps_unset_apart_from_zero() -> None:
    first, rest = capture_of(sites="**", slices=[Slice(0, stop=0), Slice(-1, step=2)]).slices

    assert (first.HasField("start"), first.HasField("stop"), first.HasField("step")) == (False, True, False)
    assert (rest.axis, rest.step, rest.HasField("stop")) == (-1, 2, False)


@pytest.mark.parametrize("dtype", ["bfloat16", "float8_e4m3fn", "int8", np.float16, np.dtype("float32"), "f2"])
def test_a_dtype(dtype: Any) -> None:
    capture = capture_of(sites="**", dtype=dtype)

    assert dtype_from_wire(capture.data_type) == np.dtype(getattr(ml_dtypes, str(dtype), dtype))
    assert not capture_of(sites="**").HasField("data_type")


@pytest.mark.parametrize("dtype", ["float99", "U3", object])
def test_a_dtype_that_is_none(dtype: Any) -> None:
    with pytest.raises(InvalidRequestError, match=r"dtype is .*, which is none"):
        capture_of(sites="**", dtype=dtype)


@pytest.mark.parametrize("reduce", ["statistics", Statistics, [Full(), None]])
def test_what_is_no_reduction(reduce: Any) -> None:
    with pytest.raises(InvalidRequestError, match=r"expected a reduction such as Statistics\(\)"):
        capture_of(sites="**", reduce=reduce if isinstance(reduce, list) else [reduce])


@pytest.mark.parametrize(
    ("reduce", "message"),
    [
        (Histogram(bins=0), "bins is 0; expected a whole number from 1"),
        (Histogram(bins=-3), "bins is -3"),
        (TopK(2**33), "k is 8589934592"),
        (Norm(order=3), "the order of a norm is 3; expected 1, 2 or math.inf"),
        (Mean(axes=2**40), "cannot be asked for: Value out of range"),
    ],
)
def test_a_reduction_that_the_contract_cannot_say(reduce: Reduction[Any], message: str) -> None:
    with pytest.raises(InvalidRequestError, match=message):
        capture_of(sites="**", reduce=reduce)


@pytest.mark.parametrize("kind", ["layer", "UNKNOWN", ""])
def test_an_unknown_kind_lists_those_that_there_are(kind: str) -> None:
    with pytest.raises(InvalidRequestError, match=r"the kinds that there are: MODULE, NAMED, EQUATION"):
        capture_of(sites="**", kinds=[kind])


def test_no_sites_is_a_mistake() -> None:
    with pytest.raises(InvalidRequestError, match=r'no sites are given; "\*\*" means all'):
        capture_of(sites=[])
