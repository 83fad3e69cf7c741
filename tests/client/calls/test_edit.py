from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from fluoroscope import (
    Add,
    InvalidRequestError,
    MeanAblate,
    PatchFromInputs,
    PatchFromRow,
    Scale,
    Set,
    Slice,
    Zero,
)
from fluoroscope.calls import inspect_activations, plan
from fluoroscope.v1 import inspection_pb2
from fluoroscope.wire import decode_tensor

if TYPE_CHECKING:
    from fluoroscope import Edit
    from fluoroscope.calls import StreamCall

X = {"image": np.zeros((1, 4), np.float32)}


def asked(*edits: Edit) -> list[inspection_pb2.Edit]:
    with pytest.raises(StopIteration) as done:
        next(inspect_activations("digits", X, sites="**", edits=edits))
    call: StreamCall[Any, Any] = done.value.value
    return list(inspection_pb2.InspectActivationsRequest.FromString(call.exchange.request).edits)


def test_one_of_anything_may_stand_for_a_list_of_it() -> None:
    (one,) = asked(Zero("Dense_0", kinds="module", rows=-1, slices=Slice(1, 2), units=3))
    (several,) = asked(Zero(["Dense_0"], kinds=["MODULE"], rows=[-1], slices=[Slice(1, 2)], units=[3]))

    assert one == several
    assert [list(each) for each in (one.sites, one.rows, one.units)] == [["Dense_0"], [-1], [3]]


def test_a_generator_is_gone_through_once() -> None:
    with pytest.raises(StopIteration) as done:
        next(inspect_activations("digits", X, sites="**", edits=(Zero(name) for name in "ab")))  # type: ignore[arg-type]  # no sequence
    request = inspection_pb2.InspectActivationsRequest.FromString(done.value.value.exchange.request)
    assert [list(edit.sites) for edit in request.edits] == [["a"], ["b"]]


def test_an_edit_goes_with_several_calls() -> None:
    edit = Zero("a", kinds=iter(["MODULE"]))

    assert asked(edit) == asked(edit) == asked(Zero("a", kinds="MODULE"))


def test_every_change_is_said() -> None:
    steering = np.array([1, 2], np.float16)
    edits = asked(
        Zero("a"),
        Set("a", 1.5),
        Add("a", steering),
        Scale("a", [[2]]),
        MeanAblate("a"),
        PatchFromRow("a", 2),
        PatchFromRow("a", [0, 1]),
        PatchFromInputs("a", X),
    )

    assert [edit.WhichOneof("change") for edit in edits] == [
        *("zero", "set", "add", "scale", "mean_ablate", "patch_from_row", "patch_from_row", "patch_from_inputs")
    ]
    assert decode_tensor(edits[1].set.value) == 1.5
    np.testing.assert_array_equal(decode_tensor(edits[2].add.value), steering, strict=True)
    assert decode_tensor(edits[3].scale.factor).shape == (1, 1)
    assert [list(edit.patch_from_row.rows) for edit in edits[5:7]] == [[2], [0, 1]]
    np.testing.assert_array_equal(decode_tensor(edits[7].patch_from_inputs.inputs["image"]), X["image"], strict=True)


def test_a_plan_sends_no_inputs() -> None:
    exchange = next(plan("digits", 1, sites="**", edits=PatchFromInputs("a", X)))
    (edit,) = inspection_pb2.PlanInspectionRequest.FromString(exchange.request).inspection.edits

    assert edit.WhichOneof("change") == "patch_from_inputs"
    assert not edit.patch_from_inputs.inputs


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        ("zero", r"edits hold 'zero'; expected edits such as Zero"),
        (Zero("a", units=[2**70]), "cannot be asked for"),
        (Zero("a", units=["first"]), "cannot be asked for"),  # type: ignore[list-item]  # the mistake
        (Zero("a", kinds="layer"), "the kinds that there are: MODULE"),
        (Set("a", "text"), "what to write cannot be sent"),
    ],
)
def test_what_the_contract_cannot_say(edit: Any, message: str) -> None:
    with pytest.raises(InvalidRequestError, match=message):
        asked(edit)
