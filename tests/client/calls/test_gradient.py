from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from fluoroscope import Full, Gradient, InvalidRequestError, Norm
from fluoroscope.calls import inspect_activations
from fluoroscope.v1 import inspection_pb2
from fluoroscope.wire import decode_tensor

if TYPE_CHECKING:
    from fluoroscope.calls import StreamCall

X = {"image": np.zeros((1, 4), np.float32)}


def asked(gradient: Gradient | None, **more: Any) -> inspection_pb2.InspectActivationsRequest:
    with pytest.raises(StopIteration) as done:
        next(inspect_activations("digits", X, gradient=gradient, **{"sites": "**", **more}))
    call: StreamCall[Any, Any] = done.value.value
    return inspection_pb2.InspectActivationsRequest.FromString(call.exchange.request)


def test_of_an_index_or_of_labels() -> None:
    logit = asked(Gradient("logits", index=4)).gradient
    loss = asked(Gradient("logits", labels=np.array([3, 1], np.int8))).gradient

    assert (logit.output, logit.WhichOneof("objective"), decode_tensor(logit.logit).item()) == ("logits", "logit", 4)
    assert (loss.WhichOneof("objective"), decode_tensor(loss.cross_entropy).tolist()) == ("cross_entropy", [3, 1])
    assert not asked(None).HasField("gradient")


def test_with_respect_to_inputs_and_parameters_no_sites_are_needed() -> None:
    request = asked(Gradient("logits", index=4, inputs="image", parameters=["a", "b"]), sites=(), reduce=Norm())

    assert not request.captures
    assert (list(request.gradient.inputs), list(request.gradient.parameters)) == (["image"], ["a", "b"])
    assert list(request.gradient.reductions) == [Norm().message()]
    both = asked(Gradient("logits", index=4, inputs="image"))
    assert list(both.captures[0].reductions) == list(both.gradient.reductions) == [Full().message()]


def test_generators_are_gone_through_once() -> None:
    gradient = Gradient("logits", index=4, inputs=(name for name in ["image"]))  # type: ignore[arg-type]  # no sequence
    first, again = (asked(gradient, reduce=iter([Norm()])) for _ in range(2))

    assert first == again == asked(Gradient("logits", index=4, inputs="image"), reduce=Norm())


@pytest.mark.parametrize("given", [{}, {"index": 1, "labels": 1}])
def test_exactly_one_of_both(given: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequestError, match="of an index or of labels: give one of them"):
        asked(Gradient("logits", **given))


def test_what_is_no_tensor() -> None:
    with pytest.raises(InvalidRequestError, match="cannot be asked for"):
        asked(Gradient("logits", index="four"))
