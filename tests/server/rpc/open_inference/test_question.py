"""What a request's parameters ask for, and which of them nobody could have meant."""

from __future__ import annotations

import pytest

from fluoroscope_server.engine import Capture, SiteKind
from fluoroscope_server.errors import InvalidRequestError, LimitExceededError
from fluoroscope_server.rpc.open_inference.inference import open_inference_pb2 as messages
from fluoroscope_server.rpc.open_inference.question import capture_of

THEIRS = (
    "sequence_id",
    "sequence_start",
    "sequence_end",
    "priority",
    "timeout",
    "binary_data_output",
    "triton_enable_empty_final_response",
    "triton_final_response",
    "headers",
    "content_type",
    "max_tokens",
    "temperature",
    "stream",
    "seed",
    "size",
    "id",
    "k",
    "",
)
"""What tritonclient, perf_analyzer and clients of KServe send, and some that their users make up."""


def request(**parameters: str) -> messages.ModelInferRequest:
    made = messages.ModelInferRequest(model_name="digits")
    for name, value in parameters.items():
        made.parameters[name].string_param = value
    return made


def test_what_is_asked_for() -> None:
    asked = capture_of(request(sites="Dense_*, relu:0", kinds="Module"))
    assert asked == Capture(sites=("Dense_*", "relu:0"), kinds=(SiteKind.MODULE,))
    assert capture_of(request()) is None


def test_what_is_for_other_servers_is_let_pass() -> None:
    others = dict.fromkeys(THEIRS, "1")
    assert capture_of(request(**others)) is None
    assert capture_of(request(**others, sites="*")) == Capture(sites=("*",))


def test_parameters_have_an_end() -> None:
    others = {f"theirs{index}": "1" for index in range(999)}
    assert capture_of(request(**others, sites="*")) == Capture(sites=("*",))
    with pytest.raises(InvalidRequestError, match="there are 1,001 parameters; expected at most 1,000") as caught:
        capture_of(request(**others, sites="*", kinds="module"))
    assert caught.value.field == "parameters"
    with pytest.raises(LimitExceededError, match="the request has 20,001 names and globs of sites") as many:
        capture_of(request(sites="a," * 20_000 + "a"))
    assert (many.value.field, many.value.reason) == ("parameters[sites]", "TOO_MANY_GLOBS")
    with pytest.raises(InvalidRequestError, match="there are 101 kinds; expected at most 100"):
        capture_of(request(sites="a", kinds="module," * 100 + "module"))


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("site", "sites"),
        ("Sites", "sites"),
        ("SITES", "sites"),
        ("sitess", "sites"),
        ("siets", "sites"),
        ("sitez", "sites"),
        ("_sites", "sites"),
        ("kind", "kinds"),
        ("kidns", "kinds"),
    ],
)
def test_a_slip_of_the_pen_is_no_plain_prediction(name: str, meant: str) -> None:
    with pytest.raises(InvalidRequestError, match=f"there is no parameter '{name}'; nearest: '{meant}'") as caught:
        capture_of(request(**{name: "*"}))
    assert caught.value.field == f"parameters[{name}]"
    with pytest.raises(InvalidRequestError, match=f"no parameter '{name}'"):
        capture_of(request(**{"sites": "*", name: "*"}))
