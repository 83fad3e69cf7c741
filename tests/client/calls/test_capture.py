from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from fluoroscope import Full, InvalidRequestError, Slice, Statistics
from fluoroscope.calls import inspect_activations
from fluoroscope.v1 import inspection_pb2

if TYPE_CHECKING:
    from fluoroscope.calls import StreamCall

X = {"image": np.zeros((1, 4), np.float32)}


def capture_of(**arguments: Any) -> inspection_pb2.Capture:  # the arguments of inspect
    with pytest.raises(StopIteration) as done:
        next(inspect_activations("digits", X, **arguments))
    call: StreamCall[Any, Any] = done.value.value
    request = inspection_pb2.InspectActivationsRequest.FromString(call.exchange.request)
    return request.captures[0]


def test_one_of_anything_may_stand_for_a_list_of_it() -> None:
    one = capture_of(sites="**", kinds="Module", reduce=Statistics(), slices=Slice(0, 1, 2))

    assert one == capture_of(sites=["**"], kinds=["MODULE"], reduce=[Statistics()], slices=[Slice(0, 1, 2)])


def test_the_default_is_the_full_value_of_every_kind() -> None:
    capture = capture_of(sites="**")

    assert list(capture.reductions) == [Full().message()]
    assert not capture.kinds
    assert not capture.slices


def test_a_slice_keeps_unset_apart_from_zero() -> None:
    first, rest = capture_of(sites="**", slices=[Slice(0, stop=0), Slice(-1, step=2)]).slices

    assert (first.HasField("start"), first.HasField("stop"), first.HasField("step")) == (False, True, False)
    assert (rest.axis, rest.step, rest.HasField("stop")) == (-1, 2, False)


def test_every_reduction_of_the_contract_can_be_asked_for() -> None:
    known = {reduction.message().WhichOneof("reduction") for reduction in (Full(), Statistics())}

    assert known == {field.name for field in inspection_pb2.Reduction.DESCRIPTOR.fields}


@pytest.mark.parametrize("kind", ["layer", "UNKNOWN", ""])
def test_an_unknown_kind_lists_those_that_there_are(kind: str) -> None:
    with pytest.raises(InvalidRequestError, match=r"the kinds that there are: MODULE, NAMED, EQUATION"):
        capture_of(sites="**", kinds=[kind])


def test_no_sites_is_a_mistake() -> None:
    with pytest.raises(InvalidRequestError, match=r'no sites are given; "\*\*" means all'):
        capture_of(sites=[])
