"""From messages to values of the domain."""

from __future__ import annotations

import re

import numpy as np
import pytest

from fluoroscope.v1 import inspection_pb2 as inspection
from fluoroscope.v1.inference_pb2 import PredictRequest
from fluoroscope.v1.tensor_pb2 import DATA_TYPE_FLOAT16, DATA_TYPE_FLOAT32, DATA_TYPE_INT32, Tensor
from fluoroscope.wire import encode_tensor
from fluoroscope_server.engine import Capture, Cast, Full, SiteKind, Slice, Statistics, TopK
from fluoroscope_server.errors import FluoroscopeError, InvalidRequestError, LimitExceededError
from fluoroscope_server.rpc.decoding import (
    KINDS,
    MOST_REDUCTIONS,
    decode_capture,
    decode_captures,
    decode_inputs,
    decode_kinds,
    decode_version,
    parse,
)
from fluoroscope_server.rpc.edit import decode_edits
from fluoroscope_server.rpc.gradient import decode_gradient
from fluoroscope_server.signature import BATCH, Signature, TensorSpec

Inspect = inspection.InspectActivationsRequest
Capture_ = inspection.Capture
Edit_ = inspection.Edit
QUANTILES = inspection.Reduction(quantiles=inspection.Reduction.Quantiles(probabilities=[0.5] * 1000))
FULL = inspection.Reduction(full=inspection.Reduction.Full())


def test_parse() -> None:
    assert parse(PredictRequest, PredictRequest(model="m").SerializeToString()).model == "m"
    with pytest.raises(InvalidRequestError, match=r"the request is no fluoroscope\.v1\.PredictRequest: "):
        parse(PredictRequest, b"\xff\xff\xff")


FLOAT = np.dtype(np.float32)
SIGNATURE = Signature(
    inputs=(TensorSpec(name="x", dtype=FLOAT, shape=(BATCH, 3)), TensorSpec(name="y", dtype=FLOAT, shape=(BATCH,))),
    outputs=(),
)


def test_inputs() -> None:
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    decoded = decode_inputs({"x": encode_tensor(x)}, SIGNATURE)
    np.testing.assert_array_equal(decoded["x"], x, strict=True)
    broken = Tensor(data_type=DATA_TYPE_FLOAT32, shape=[2, 3], data=b"1234")
    with pytest.raises(InvalidRequestError, match="input 'x': data has 4 bytes") as caught:
        decode_inputs({"x": broken}, SIGNATURE)
    assert (caught.value.field, caught.value.reason) == ("inputs[x]", "BROKEN_TENSOR")


def test_of_more_inputs_than_there_are_none_is_decoded() -> None:
    request = PredictRequest()
    for index in range(1000):
        request.inputs[f"x{index}"].shape.append(-1)
    with pytest.raises(InvalidRequestError, match=r"there is no input 'x\d+'; nearest: 'x'") as caught:
        decode_inputs(request.inputs, SIGNATURE, within="left")
    assert re.fullmatch(r"left\.inputs\[x\d+\]", caught.value.field or "")


@pytest.mark.parametrize(
    ("request_", "reason", "message"),
    [
        (
            Inspect(captures=[Capture_()] * 1001),
            "TOO_MANY_CAPTURES",
            "the request has 1,001 captures, and the limit is 1,000: one capture may name many sites",
        ),
        (
            Inspect(captures=[Capture_(sites=["a"] * 10_000), Capture_(sites=["b"] * 10_001)]),
            "TOO_MANY_GLOBS",
            "the request has 20,001 names and globs of sites, and the limit is 20,000: name each once",
        ),
        (
            Inspect(captures=[Capture_(sites=["a"], reductions=[FULL] * 100)] * 201),
            "TOO_MANY_RESULTS",
            "this inspection would have more than 20,000 results",
        ),
        (
            Inspect(captures=[Capture_(sites=["a"], reductions=[QUANTILES])] * 101),
            "INVALID_REQUEST",
            "there are 101,000 probabilities; expected at most 100,000",
        ),
    ],
)
def test_captures_are_counted_before_any_is_decoded(request_: Inspect, reason: str, message: str) -> None:
    with pytest.raises(FluoroscopeError, match=message) as caught:
        decode_captures(request_)
    assert (caught.value.field, caught.value.reason) == ("captures", reason)
    del request_.captures[1000:], request_.captures[:1]
    assert len(decode_captures(request_)) == len(request_.captures)


@pytest.mark.parametrize(
    ("edits", "reason", "message"),
    [
        ([Edit_()] * 1001, "TOO_MANY_EDITS", "the request has 1,001 edits, and the limit is 1,000: one edit may name"),
        ([Edit_(sites=["a"] * 20_001)], "TOO_MANY_GLOBS", "the request has 20,001 names and globs of sites"),
        (
            [Edit_(rows=[0] * 9, units=[0] * (1 << 20))],
            "INVALID_REQUEST",
            "there are 1,048,585 rows and units; expected at most 1,048,576",
        ),
    ],
)
def test_edits_are_counted_before_any_is_decoded(edits: list[Edit_], reason: str, message: str) -> None:
    with pytest.raises(FluoroscopeError, match=message) as caught:
        decode_edits(edits, SIGNATURE)
    assert (caught.value.field, caught.value.reason) == ("edits", reason)


def test_kinds_and_slices_have_an_end() -> None:
    assert decode_kinds([1] * 100, field="kinds") == (SiteKind.MODULE,)
    with pytest.raises(InvalidRequestError, match="there are 101 kinds; expected at most 100") as caught:
        decode_kinds([1] * 101, field="kinds")
    assert caught.value.field == "kinds"
    with pytest.raises(InvalidRequestError, match="there are 65 slices; expected at most 64") as caught:
        decode_capture(Capture_(slices=[inspection.Slice()] * 65), field="captures[3]")
    assert caught.value.field == "captures[3].slices"


def test_a_gradient_names_no_more_than_a_capture_may() -> None:
    zero = encode_tensor(np.zeros((), np.int32))
    gradient = inspection.Gradient(logit=zero, inputs=["x"] * 20_000, parameters=["**"])
    with pytest.raises(LimitExceededError, match="the request has 20,001 names and globs of sites") as caught:
        decode_gradient(Inspect(gradient=gradient))
    assert (caught.value.field, caught.value.reason) == ("gradient", "TOO_MANY_GLOBS")


@pytest.mark.parametrize("version", [0, 7])
def test_a_version_of_nought_is_a_version(version: int) -> None:
    assert decode_version(PredictRequest(version=version)) == version
    assert decode_version(PredictRequest()) is None


def test_every_kind_of_the_contract_is_known() -> None:
    """A new one fails here by its name until it has a row."""
    assert set(inspection.SiteKind.values()) - {inspection.SITE_KIND_UNSPECIFIED} == set(KINDS)
    assert set(KINDS.values()) == set(SiteKind)


@pytest.mark.parametrize(
    ("numbers", "kinds"),
    [
        ([], ()),
        ([1], (SiteKind.MODULE,)),
        ([3, 1, 3], (SiteKind.MODULE, SiteKind.EQUATION)),
        ([0, 1], ()),  # any kind, or modules: any
    ],
)
def test_kinds(numbers: list[int], kinds: tuple[SiteKind, ...]) -> None:
    assert decode_kinds(numbers, field="kinds") == kinds


def test_a_kind_that_is_none() -> None:
    with pytest.raises(
        InvalidRequestError,
        match="99 is no kind of site; the kinds are SITE_KIND_MODULE, SITE_KIND_NAMED, SITE_KIND_EQ",
    ) as caught:
        decode_kinds([1, 99], field="captures[0].kinds")
    assert caught.value.field == "captures[0].kinds"


def test_captures() -> None:
    message = inspection.Capture(
        sites=["a", "b*"],
        kinds=[inspection.SITE_KIND_NAMED],
        slices=[
            inspection.Slice(axis=-1),
            inspection.Slice(axis=0, start=0, stop=0, step=0),
            inspection.Slice(axis=1, start=-2, stop=5, step=3),
        ],
        reductions=[
            inspection.Reduction(statistics=inspection.Reduction.Describe()),
            inspection.Reduction(full=inspection.Reduction.Full()),
        ],
    )
    assert decode_capture(message, field="captures[0]") == Capture(
        sites=("a", "b*"),
        kinds=(SiteKind.NAMED,),
        slices=(
            Slice(axis=-1),
            Slice(axis=0, start=0, stop=0, step=0),  # set to 0 is not unset; the engine refuses it
            Slice(axis=1, start=-2, stop=5, step=3),
        ),
        reductions=(Statistics(), Full()),
    )
    assert decode_capture(inspection.Capture(sites=["a"]), field="f").reductions == (Full(),)


def test_a_reduction_that_is_not_set() -> None:
    message = inspection.Capture(
        reductions=[inspection.Reduction(full=inspection.Reduction.Full()), inspection.Reduction()]
    )
    with pytest.raises(
        InvalidRequestError, match="no known reduction is set; the known are full, statistics, histogram, quantiles"
    ) as caught:
        decode_capture(message, field="captures[4]")
    assert caught.value.field == "captures[4].reductions[1]"


def test_too_many_reductions() -> None:
    full = inspection.Reduction(full=inspection.Reduction.Full())
    assert len(decode_capture(inspection.Capture(reductions=[full] * MOST_REDUCTIONS), field="f").reductions) == 100
    with pytest.raises(InvalidRequestError, match="there are 101 reductions; expected at most 100") as caught:
        decode_capture(inspection.Capture(reductions=[full] * (MOST_REDUCTIONS + 1)), field="captures[0]")
    assert caught.value.field == "captures[0].reductions"


def test_a_cast_is_of_what_gives_tensors() -> None:
    statistics = inspection.Reduction(statistics=inspection.Reduction.Describe())
    top = inspection.Reduction(top_k=inspection.Reduction.TopK(k=2))
    half = np.dtype(np.float16)
    cast = Cast(reduction=Full(), dtype=half)
    assert decode_capture(inspection.Capture(data_type=DATA_TYPE_FLOAT16), field="f").reductions == (cast,)
    both = inspection.Capture(reductions=[statistics, top], data_type=DATA_TYPE_FLOAT16)
    assert decode_capture(both, field="f").reductions == (Statistics(), Cast(reduction=TopK(k=2), dtype=half))
    with pytest.raises(
        InvalidRequestError, match="data_type asks for float16, and no reduction of this capture gives a tensor"
    ) as caught:
        decode_capture(inspection.Capture(reductions=[statistics], data_type=DATA_TYPE_FLOAT16), field="captures[0]")
    assert caught.value.field == "captures[0].data_type"


@pytest.mark.parametrize(
    ("number", "message"),
    [
        (0, r"data_type is not set; .* values can be cast to float32, float16, bfloat16"),
        (99, r"data_type is 99, which is unknown; .* values can be cast to float32"),
        (DATA_TYPE_INT32, "values cannot be cast to int32, only to float32, float16, bfloat16, .*, int8"),
    ],
)
def test_a_cast_to_what_is_no_type_of_values(number: int, message: str) -> None:
    with pytest.raises(InvalidRequestError, match=message) as caught:
        decode_capture(inspection.Capture(data_type=number), field="captures[0]")  # type: ignore[arg-type]  # wrong
    assert caught.value.field == "captures[0].data_type"
