"""Every wrong turn: the answer says what is wrong with what, and the server goes on serving."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from grpc_health.v1.health_pb2 import HealthCheckRequest

from fluoroscope.v1 import inference_pb2, inspection_pb2, model_pb2
from fluoroscope.wire import decode_tensor, encode_tensor
from fluoroscope_server.rpc.open_inference.inference import open_inference_pb2

from . import raw
from .aftermath import keeps_secrets, still_serves
from .raw import GET_MODEL, INSPECT, LIST_MODELS, LIST_SITES, METHODS, PREDICT, Refusal, capture, inspect, predict
from .saved import batch

if TYPE_CHECKING:
    from google.protobuf.message import Message

    from .server_process import ServerProcess

INFER = "/inference.GRPCInferenceService/ModelInfer"
INVALID, NOT_FOUND, EXHAUSTED = "INVALID_ARGUMENT", "NOT_FOUND", "RESOURCE_EXHAUSTED"


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    name: str
    method: str
    request: Message | bytes
    code: str
    reason: str
    field: str | None
    says: tuple[str, ...]


CASES: list[Case] = []


def case(  # noqa: PLR0917 (a row of a table)
    name: str,
    method: str,
    request: Message | bytes,
    code: str,
    reason: str,
    field: str | None,
    *says: str,
) -> None:
    CASES.append(Case(name=name, method=method, request=request, code=code, reason=reason, field=field, says=says))


def x(data_type: int = 25, shape: tuple[int, ...] = (1, 6), data: bytes = b"") -> dict[str, bytes]:
    return {"x": raw.tensor(data_type, shape, data)}


def of(array: np.ndarray) -> dict[str, bytes]:
    return {"x": encode_tensor(array).SerializeToString()}


def cut(**slice_: int) -> Message:
    return inspect(capture("Dense_0", slices=(slice_,)))


def infer(
    version: str = "", *, inputs: tuple[dict[str, str], ...] = (), parameters: dict[str, str] | None = None
) -> Message:
    request = open_inference_pb2.ModelInferRequest(model_name="relu", model_version=version)
    for each in inputs:
        request.inputs.add(**each)
    for name, value in (parameters or {}).items():
        request.parameters[name].string_param = value
    return request


INPUT = "inputs[x]"

# --- names
case("model", PREDICT, predict("rleu"), NOT_FOUND, "MODEL_NOT_FOUND", "model", "no model 'rleu'", "'relu'")
case("no model", PREDICT, predict(""), NOT_FOUND, "MODEL_NOT_FOUND", "model", "names no model", "this server has")
case("model with a null", PREDICT, predict("relu\0"), NOT_FOUND, "MODEL_NOT_FOUND", "model", r"'relu\x00'")
case("version", PREDICT, predict(version=8), NOT_FOUND, "VERSION_NOT_FOUND", "version", "no version 8", "it has 7")
case("version 0", PREDICT, predict(version=0), NOT_FOUND, "VERSION_NOT_FOUND", "version", "no version 0")
case(
    "input", PREDICT, predict(inputs={"image": raw.good()}),
    INVALID, "INPUT_NOT_FOUND", "inputs[image]", "no input 'image'", "'x'",
)  # fmt: skip
case("no input", PREDICT, predict(inputs={}), INVALID, "INPUT_MISSING", INPUT, "'x' is missing", "float32[batch, 6]")
case(
    "nameless input", PREDICT, predict(inputs={"": raw.good(), "x": raw.good()}),
    INVALID, "INPUT_NOT_FOUND", "inputs[]", "no input ''",
)  # fmt: skip
case(
    "output", PREDICT, predict(outputs=("logits", "logit")),
    INVALID, "OUTPUT_NOT_FOUND", "outputs[1]", "no output 'logit'", "the outputs are logits",
)  # fmt: skip
case("nameless output", PREDICT, predict(outputs=("",)), INVALID, "OUTPUT_NOT_FOUND", "outputs[0]", "no output ''")
case(
    "output of an inspection", INSPECT, inspect(capture("Dense_0"), outputs=("classes",)),
    INVALID, "OUTPUT_NOT_FOUND", "outputs[0]", "no output 'classes'",
)  # fmt: skip
for written in ("latest", "-1", "7" * 20, "7" * 5_000, "\u0667"):
    case(
        f"version {written[:20]!a} of {len(written)}", INFER, infer(written),
        NOT_FOUND, "LABEL_NOT_FOUND", "model_version", "'relu' has no label", written[:20], "a number of 19 digits",
    )  # fmt: skip
case(
    "version that a model lacks", INFER, infer("9" * 19),
    NOT_FOUND, "VERSION_NOT_FOUND", "version", f"no version {'9' * 19}; it has 7",
)  # fmt: skip
case("model to describe", GET_MODEL, model_pb2.GetModelRequest(model="x"), NOT_FOUND, "MODEL_NOT_FOUND", "model", "'x'")
case("model to list", LIST_SITES, predict("z", inputs={}), NOT_FOUND, "MODEL_NOT_FOUND", "model", "no model 'z'")
case("model to inspect", INSPECT, inspect(model="z"), NOT_FOUND, "MODEL_NOT_FOUND", "model", "no model 'z'")

# --- dtypes and shapes
case(
    "dtype", PREDICT, predict(inputs=of(batch(1).astype(np.float64))),
    INVALID, "WRONG_DTYPE", INPUT, "float64[1, 6]", "float32[batch, 6]", "convert it to float32",
)  # fmt: skip
case("no dtype", PREDICT, predict(inputs=x(0, data=bytes(24))), INVALID, "BROKEN_TENSOR", INPUT, "type", "'x'")
case("unknown dtype", PREDICT, predict(inputs=x(99, data=bytes(24))), INVALID, "BROKEN_TENSOR", INPUT, "99")
case("negative dtype", PREDICT, predict(inputs=x(-1, data=bytes(24))), INVALID, "BROKEN_TENSOR", INPUT, "-1")
case("no batch axis", PREDICT, predict(inputs=of(batch(1)[0])), INVALID, "WRONG_SHAPE", INPUT, "batch axis is missing")
case("rank", PREDICT, predict(inputs=of(batch(1)[None])), INVALID, "WRONG_SHAPE", INPUT, "float32[1, 1, 6]")
case("scalar", PREDICT, predict(inputs=of(np.array(1, np.float32))), INVALID, "WRONG_SHAPE", INPUT, "float32[]")
case("size", PREDICT, predict(inputs=of(batch(1, 7))), INVALID, "WRONG_SHAPE", INPUT, "[1, 7]", "[batch, 6]")
case("no rows", PREDICT, predict(inputs=of(batch(0))), INVALID, "WRONG_SHAPE", INPUT, "[0, 6]", "at least one row")
case(
    "rows", PREDICT, predict(inputs=of(batch(129))),
    EXHAUSTED, "TOO_MANY_ROWS", "inputs", "129 rows", "limit is 128", "16 times the largest bucket",
)  # fmt: skip
case(
    "rows to inspect", INSPECT, inspect(capture("Dense_0"), inputs=of(batch(9))),
    EXHAUSTED, "TOO_MANY_ROWS", "inputs", "9 rows",
)  # fmt: skip
case("too few bytes", PREDICT, predict(inputs=x(data=bytes(23))), INVALID, "BROKEN_TENSOR", INPUT, "23 bytes", "24")
case("too many bytes", PREDICT, predict(inputs=x(data=bytes(25))), INVALID, "BROKEN_TENSOR", INPUT, "25 bytes", "24")
case("no bytes", PREDICT, predict(inputs=x()), INVALID, "BROKEN_TENSOR", INPUT, "0 bytes", "24")
case("negative size", PREDICT, predict(inputs=x(shape=(-1, 6))), INVALID, "BROKEN_TENSOR", INPUT, "[-1, 6]", "negative")
case(
    "two negative sizes", PREDICT, predict(inputs=x(shape=(-1, -6), data=bytes(24))),
    INVALID, "BROKEN_TENSOR", INPUT, "[-1, -6]", "negative",
)  # fmt: skip
case("huge size", PREDICT, predict(inputs=x(shape=(1 << 62, 6))), INVALID, "BROKEN_TENSOR", INPUT, str(1 << 62))
case(
    "sizes whose product is 0 in 64 bits", PREDICT, predict(inputs=x(shape=(1 << 32, 1 << 32))),
    INVALID, "BROKEN_TENSOR", INPUT, str(1 << 32),
)  # fmt: skip
case(
    "a huge size times 0", PREDICT, predict(inputs=x(shape=((1 << 63) - 1, 0))),
    INVALID, "BROKEN_TENSOR", INPUT, "no array can have the shape",
)  # fmt: skip
case(
    "a hundred axes", PREDICT, predict(inputs=x(shape=(1,) * 100, data=bytes(4))),
    INVALID, "BROKEN_TENSOR", INPUT, "no array can have the shape",
)  # fmt: skip
case(
    "three hundred of the greatest size", PREDICT, predict(inputs=x(shape=((1 << 63) - 1,) * 300)),
    INVALID, "BROKEN_TENSOR", INPUT, "no array can have the shape", "and 284 more", "300 axes", "64",
)  # fmt: skip
case(
    "ten thousand of the greatest size", PREDICT, predict(inputs=x(shape=((1 << 63) - 1,) * 10_000)),
    INVALID, "BROKEN_TENSOR", INPUT, "no array can have the shape", "10,000 axes",
)  # fmt: skip
case(
    "a byte that is no truth value", PREDICT,
    predict("function", inputs={"tokens": encode_tensor(batch(1, 3)).SerializeToString(),
                                "mask": raw.tensor(1, (1,), b"\2")}),
    INVALID, "BROKEN_TENSOR", "inputs[mask]", "0x02", "bool",
)  # fmt: skip
case(
    "inputs of different rows", PREDICT,
    predict("function", inputs={"tokens": encode_tensor(batch(2, 3)).SerializeToString(),
                                "mask": raw.tensor(1, (1,), b"\1")}),
    INVALID, "INVALID_REQUEST", "inputs[mask]", "has 1 row,", "'tokens' has 2",
)  # fmt: skip

# --- sites
case("no captures", INSPECT, inspect(), INVALID, "INVALID_REQUEST", "captures", "captures is empty", "Predict")
case(
    "an empty capture", INSPECT, inspect(capture("Dense_0"), capture()),
    INVALID, "INVALID_REQUEST", "captures[1]", "captures[1].sites is empty",
)  # fmt: skip
case(
    "site", INSPECT, inspect(capture("Dense_0", "Dence_1")),
    NOT_FOUND, "SITE_NOT_FOUND", "captures[0].sites[1]", "no site 'Dence_1'", "'Dense_1'",
)  # fmt: skip
case("nameless site", INSPECT, inspect(capture("")), NOT_FOUND, "SITE_NOT_FOUND", "captures[0].sites[0]", "no site ''")
case(
    "site with a null", INSPECT, inspect(capture("Dense_0\0")),
    NOT_FOUND, "SITE_NOT_FOUND", "captures[0].sites[0]", r"'Dense_0\x00'",
)  # fmt: skip
case("parent folder", INSPECT, inspect(capture("../relu")), NOT_FOUND, "SITE_NOT_FOUND", "captures[0].sites[0]", "..")
case(
    "glob", INSPECT, inspect(capture("Dense_0"), capture("Conv_*")),
    INVALID, "GLOB_MATCHES_NOTHING", "captures[1].sites[0]", "'Conv_*'", "none of the",
)  # fmt: skip
case(
    "glob of another kind", INSPECT, inspect(capture("activations/*", kinds=(1,))),
    INVALID, "GLOB_MATCHES_NOTHING", "captures[0].sites[0]", "5 of other kinds",
)  # fmt: skip
case(
    "site of another kind", INSPECT, inspect(capture("Dense_0", kinds=(3,))),
    INVALID, "INVALID_REQUEST", "captures[0].sites[0]", "MODULE", "EQUATION",
)  # fmt: skip
case(
    "unknown kind", INSPECT, inspect(capture("Dense_0", kinds=(1, 42))),
    INVALID, "INVALID_REQUEST", "captures[0].kinds", "42", "SITE_KIND_MODULE",
)  # fmt: skip
case(
    "unset reduction", INSPECT,
    inspect(inspection_pb2.Capture(sites=["Dense_0"], reductions=[inspection_pb2.Reduction()])),
    INVALID, "INVALID_REQUEST", "captures[0].reductions[0]", "full, statistics",
)  # fmt: skip

# --- slices
SLICE, OUTSIDE = "captures[0].slices[0]", "SLICE_OUT_OF_RANGE"
case("axis", INSPECT, cut(axis=2), INVALID, OUTSIDE, SLICE, "no axis 2", "2 axes")
case("negative axis", INSPECT, cut(axis=-3), INVALID, OUTSIDE, SLICE, "no axis -3")
case("start", INSPECT, cut(axis=1, start=16), INVALID, OUTSIDE, SLICE, "16", "size is 16")
case("stop", INSPECT, cut(axis=1, stop=17), INVALID, OUTSIDE, SLICE, ":17")
case("huge stop", INSPECT, cut(axis=1, stop=(1 << 63) - 1), INVALID, OUTSIDE, SLICE, str((1 << 63) - 1))
case("least start", INSPECT, cut(axis=1, start=-(1 << 63)), INVALID, OUTSIDE, SLICE, str(1 << 63))
case("nothing", INSPECT, cut(axis=1, start=3, stop=3), INVALID, OUTSIDE, SLICE, "start must be before stop")
case("step 0", INSPECT, cut(axis=1, step=0), INVALID, OUTSIDE, SLICE, "step positive")
case("step back", INSPECT, cut(axis=1, step=-1), INVALID, OUTSIDE, SLICE, "step positive")
case("rows that are padding", INSPECT, cut(axis=0, stop=2), INVALID, OUTSIDE, SLICE, "size is 1")
case(
    "an axis twice", INSPECT, inspect(capture("Dense_0", slices=({"axis": 1}, {"axis": -1}))),
    INVALID, "INVALID_REQUEST", "captures[0].slices[1]", "axis 1", "twice",
)  # fmt: skip

# --- limits
case(
    "max_bytes", INSPECT, inspect(capture("Dense_0"), max_bytes=63),
    EXHAUSTED, "INSPECTION_TOO_LARGE", "max_bytes", "64 bytes", "the limit is 63", "fewer sites",
)  # fmt: skip

MANY: tuple[tuple[str, str, Message, str, str], ...] = (
    ("captures", INSPECT, inspect(*[capture()] * 1001), "TOO_MANY_CAPTURES", "1,001 captures"),
    ("captures", INSPECT, inspect(capture(*["Dense_0"] * 20_001)), "TOO_MANY_GLOBS", "20,001 names"),
    (
        "globs",
        LIST_SITES,
        inspection_pb2.ListSitesRequest(model="relu", globs=["a"] * 20_001),
        "TOO_MANY_GLOBS",
        "20,001 names",
    ),
    ("outputs", PREDICT, predict(outputs=("logits",) * 10_001), "", "10,001 outputs"),
    ("captures[0].kinds", INSPECT, inspect(capture("**", kinds=(1,) * 101)), "", "101 kinds"),
    ("captures[0].slices", INSPECT, inspect(capture("**", slices=({"axis": 1},) * 65)), "", "65 slices"),
    ("parameters", INFER, infer(parameters={str(each): "" for each in range(1001)}), "", "1,001 parameters"),
)
for field, method, asked, reason, says in MANY:
    if reason:
        case(f"many: {says}", method, asked, EXHAUSTED, reason, field, says, "the limit is")
    else:
        case(f"many: {says}", method, asked, INVALID, "INVALID_REQUEST", field, says, "expected at most")

# --- pages
for token in ("abc", "-1", "1e1", "99999999", "9" * 40, "\u0661", " 1", "\0"):
    pages = inspection_pb2.ListSitesRequest(model="relu", page_token=token)
    case(f"page token {token[:9]!a}", LIST_SITES, pages, INVALID, "INVALID_REQUEST", "page_token", "page_token")
case(
    "page size", LIST_SITES, inspection_pb2.ListSitesRequest(model="relu", page_size=-1),
    INVALID, "INVALID_REQUEST", "page_size", "-1 is negative",
)  # fmt: skip
case(
    "page token of models", LIST_MODELS, model_pb2.ListModelsRequest(page_token="relu"),
    INVALID, "INVALID_REQUEST", "page_token", "'relu'",
)  # fmt: skip
case(
    "unknown kind to list", LIST_SITES, b"\x0a\x04relu\x28\x2a",
    INVALID, "INVALID_REQUEST", "kinds", "42",
)  # fmt: skip

# --- bytes that are no message
for method in METHODS:
    text = b"\x12" if method == LIST_MODELS else b"\x0a"  # the tag of its first field that is text
    for name, data in (
        ("garbage", b"\xff" * 64),
        ("half a message", text + b"\x7frelu"),
        ("text that is none", text + b"\1\xff"),
    ):
        says = "request is no fluoroscope.v1."
        case(f"{name} to {method.rpartition('/')[2]}", method, data, INVALID, "INVALID_REQUEST", None, says)

# --- longer than a status can be: gRPC's headers end at 8 to 16 KiB
LONG = "long" * 20_000
HEALTH, TOO_LARGE = "/grpc.health.v1.Health/Check", "REQUEST_TOO_LARGE"
LENGTHY = [
    Case(name=name, method=method, request=request, code=code, reason=reason, field=None, says=())
    for name, method, request, code, reason in (
        ("model", PREDICT, predict(LONG), NOT_FOUND, "MODEL_NOT_FOUND"),
        ("site", INSPECT, inspect(capture(LONG)), NOT_FOUND, "SITE_NOT_FOUND"),
        ("glob", INSPECT, inspect(capture(LONG[:9_000] + "*")), INVALID, "GLOB_MATCHES_NOTHING"),
        ("glob above the limit", INSPECT, inspect(capture(LONG + "*")), EXHAUSTED, "TOO_MANY_GLOBS"),
        ("output", PREDICT, predict(outputs=(LONG,)), INVALID, "OUTPUT_NOT_FOUND"),
        ("input", PREDICT, predict(inputs={LONG: raw.good()}), INVALID, "INPUT_NOT_FOUND"),
        ("broken input", PREDICT, predict(inputs={LONG: raw.tensor(99)}), INVALID, "BROKEN_TENSOR"),
        (
            "many inputs",
            PREDICT,
            predict(inputs=dict.fromkeys(map(str, range(9_999)), b"")),
            INVALID,
            "INPUT_NOT_FOUND",
        ),
        ("shape", PREDICT, predict(inputs=x(shape=(1,) * 80_000, data=bytes(4))), INVALID, "BROKEN_TENSOR"),
        ("label", GET_MODEL, model_pb2.GetModelRequest(model="relu", label=LONG), NOT_FOUND, "LABEL_NOT_FOUND"),
        ("page token", LIST_MODELS, model_pb2.ListModelsRequest(page_token=LONG), INVALID, "INVALID_REQUEST"),
        ("service", HEALTH, HealthCheckRequest(service=LONG), EXHAUSTED, TOO_LARGE),
        ("short service", HEALTH, HealthCheckRequest(service=LONG[:4_000]), NOT_FOUND, "SERVICE_NOT_FOUND"),
        ("version", INFER, infer(LONG), NOT_FOUND, "LABEL_NOT_FOUND"),
        ("datatype", INFER, infer(inputs=({"name": "x", "datatype": LONG},)), INVALID, "WRONG_DTYPE"),
        ("input without a type", INFER, infer(inputs=({"name": LONG},)), INVALID, "WRONG_DTYPE"),
        ("input twice", INFER, infer(inputs=({"name": LONG}, {"name": LONG})), INVALID, "INVALID_REQUEST"),
        ("kind", INFER, infer(parameters={"sites": "Dense_0", "kinds": LONG}), INVALID, "INVALID_REQUEST"),
        ("list of sites", INFER, infer(parameters={"sites": LONG + ","}), INVALID, "INVALID_REQUEST"),
    )
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_wrong_turn(server: ServerProcess, case: Case) -> None:
    found = raw.call(server.target, case.method, case.request)

    assert isinstance(found, Refusal), "it was answered"
    assert (found.code, found.reason) == (case.code, case.reason), found
    assert found.field == case.field
    assert [text for text in case.says if text not in found.message] == [], found.message
    keeps_secrets(found)
    still_serves(server)


@pytest.mark.parametrize("case", LENGTHY, ids=lambda case: case.name)
def test_what_came_is_quoted_in_part(server: ServerProcess, case: Case) -> None:
    found = raw.call(server.target, case.method, case.request)

    assert isinstance(found, Refusal), "it was answered"
    assert (found.code, found.reason) == (case.code, case.reason), found.code
    assert len(found.message) < 1024
    still_serves(server)


@pytest.mark.parametrize("letter", ["\U0001f9e0", "\U000e0001"], ids=["printed", "escaped"])
def test_what_came_in_letters_of_four_bytes_is_quoted_in_part(server: ServerProcess, letter: str) -> None:
    found = raw.call(server.target, PREDICT, predict(letter * 20_000))
    assert isinstance(found, Refusal)
    assert (found.code, found.reason) == (NOT_FOUND, "MODEL_NOT_FOUND"), found
    assert len(found.message) < 2048


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_none_are_numbers(server: ServerProcess, value: float) -> None:
    array = np.full((2, 6), value, np.float32)
    array[1] = 1.0
    answer = raw.call(server.target, PREDICT, predict(inputs=of(array)))
    assert isinstance(answer, list), answer
    logits = decode_tensor(inference_pb2.PredictResponse.FromString(answer[0]).outputs["logits"])
    assert not np.isfinite(logits[0]).all()
    assert np.isfinite(logits[1]).all(), "a row must not hurt its neighbour"
    assert isinstance(raw.call(server.target, INSPECT, inspect(capture("**"), inputs=of(array))), list)
    still_serves(server)


def test_pages_join_to_the_whole(server: ServerProcess) -> None:
    def ask(**options: Any) -> inspection_pb2.ListSitesResponse:
        answer = raw.call(server.target, LIST_SITES, inspection_pb2.ListSitesRequest(model="relu", **options))
        assert isinstance(answer, list), answer
        return inspection_pb2.ListSitesResponse.FromString(answer[0])

    whole = ask(page_size=(1 << 31) - 1)
    joined: list[inspection_pb2.Site] = []
    token = ""
    for _ in range(len(whole.sites)):
        page = ask(page_size=5, page_token=token)
        assert page.total_size == len(whole.sites)
        joined += page.sites
        token = page.next_page_token
        if not token:
            break
    assert joined == list(whole.sites)
    assert whole.next_page_token == ""


def test_a_request_over_the_message_limit(server: ServerProcess) -> None:
    for size, reason, says in (
        (3 << 19, "REQUEST_TOO_LARGE", "the limit is 1,048,576 (max-request-mib)"),
        (1 << 21, None, "larger than max"),  # gRPC's own words
    ):
        found = raw.call(server.target, PREDICT, predict(inputs=x(shape=(size // 4,), data=bytes(size))))
        assert isinstance(found, Refusal)
        assert (found.code, found.reason) == (EXHAUSTED, reason)
        assert says in found.message
        keeps_secrets(found)
        still_serves(server)
