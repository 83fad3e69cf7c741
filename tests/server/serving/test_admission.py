"""Admission: what is open never exceeds a limit, and whoever leaves makes room."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fluoroscope_server.errors import LimitExceededError, UnavailableError
from fluoroscope_server.serving.admission import STREAM_SOON, Admission
from fluoroscope_server.settings import Settings

LIMITS: dict[str, Any] = {"max_calls": 5, "max_calls_per_client": 3, "max_streams": 3, "max_streams_per_client": 2}
ENTRIES = st.tuples(st.sampled_from("abc"), st.integers(0, 60), st.booleans())


def admission(**limits: Any) -> Admission:
    return Admission(Settings(models=(), **limits))


def refusal(admission: Admission, client: str = "a", size: int = 1, *, streams: bool = False) -> LimitExceededError:
    with pytest.raises(LimitExceededError) as caught:
        admission.enter(client, size=size, streams=streams)
    return caught.value


@pytest.mark.parametrize(
    ("entered", "then", "reason", "says"),
    [
        ("a b c d e", "a", "CALLS_BUSY", "5 calls are open, and that is the limit (max-calls)"),
        ("a a a b", "a", "CLIENT_CALLS_BUSY", "3 calls of this client are open, and that is the limit (max-calls-per"),
        ("A A", "A", "CLIENT_STREAMS_BUSY", "2 streams of this client are open, and that is the limit (max-streams-pe"),
        ("A B C", "D", "STREAMS_BUSY", "3 streams are open, and that is the limit (max-streams): ask again when"),
    ],
)
def test_what_is_refused(entered: str, then: str, reason: str, says: str) -> None:
    """A capital is a stream."""
    crowd = admission(**LIMITS)
    for each in entered.split():
        crowd.enter(each.lower(), size=1, streams=each.isupper())
    error = refusal(crowd, then.lower(), streams=then.isupper())
    assert error.reason == reason
    assert error.message.startswith(says)
    assert error.retry_after is not None
    assert 0 < error.retry_after <= 1.5 * STREAM_SOON
    leaving = next(each for each in entered.split() if each == then or reason in {"CALLS_BUSY", "STREAMS_BUSY"})
    crowd.leave(leaving.lower(), size=1, streams=leaving.isupper())
    crowd.enter(then.lower(), size=1, streams=then.isupper())


def test_bytes_of_requests() -> None:
    crowd = admission(max_open_bytes=100, max_request_bytes=1000)
    error = refusal(crowd, "b", 1001)
    assert (error.reason, error.retry_after) == ("REQUEST_TOO_LARGE", None)
    assert error.message.startswith("this request has 1,001 bytes, and the limit is 1,000 (max-request-mib)")
    crowd.enter("a", size=1000, streams=False)
    error = refusal(crowd, "b", 7)
    assert error.reason == "REQUEST_BYTES_BUSY"
    assert (
        "this request has 7 bytes, those that are being answered have 1,000, and the limit for all is 100 (max-op"
        in (error.message)
    )
    crowd.leave("a", size=1000, streams=False)
    crowd.enter("b", size=60, streams=False)
    crowd.enter("c", size=40, streams=True)
    assert refusal(crowd, "a", 1).reason == "REQUEST_BYTES_BUSY"
    assert (crowd.open_bytes, crowd.clients) == (100, 2)


def test_a_server_that_drains_lets_nobody_in() -> None:
    crowd = admission()
    crowd.enter("a", size=1, streams=True)
    crowd.close()
    with pytest.raises(UnavailableError, match="the server is draining") as caught:
        crowd.enter("a", size=1, streams=False)
    assert caught.value.reason == "DRAINING"
    crowd.leave("a", size=1, streams=True)
    assert crowd.clients == 0


@given(st.lists(ENTRIES | st.integers(0, 9), max_size=60))
def test_no_limit_is_exceeded_and_nothing_is_left(moves: list[tuple[str, int, bool] | int]) -> None:
    """Against a count of our own: whoever fits is let in, whoever does not is refused, and in the end nobody is in."""
    crowd = admission(**LIMITS, max_open_bytes=100)
    inside: list[tuple[str, int, bool]] = []
    for move in moves:
        if isinstance(move, int):
            if move < len(inside):
                client, size, streams = inside.pop(move)
                crowd.leave(client, size=size, streams=streams)
            continue
        client, size, streams = move
        calls, flows = Counter(each[0] for each in inside), Counter(each[0] for each in inside if each[2])
        held = sum(each[1] for each in inside)
        fits = len(inside) < 5 and calls[client] < 3 and (not held or held + size <= 100)
        if fits and (not streams or (flows.total() < 3 and flows[client] < 2)):
            crowd.enter(client, size=size, streams=streams)
            inside.append(move)
        else:
            refusal(crowd, client, size, streams=streams)
    assert crowd.open_bytes == sum(each[1] for each in inside)
    assert crowd.clients == len({each[0] for each in inside})
    for client, size, streams in inside:
        crowd.leave(client, size=size, streams=streams)
    assert (crowd.open_bytes, crowd.clients) == (0, 0)


def test_it_is_empty_when_the_last_call_has_ended() -> None:
    async def test() -> None:
        admission = Admission(Settings(models=()))
        admission.enter("a", size=1, streams=False)
        admission.enter("b", size=1, streams=True)
        admission.close()
        assert not await admission.emptied(0)
        waiting = asyncio.ensure_future(admission.emptied(60))
        admission.leave("a", size=1, streams=False)
        assert not await admission.emptied(0)
        admission.leave("b", size=1, streams=True)
        assert await waiting
        closed = Admission(Settings(models=()))
        closed.close()
        assert await closed.emptied(0)

    asyncio.run(test())


def test_each_request_of_a_call_that_brings_many() -> None:
    crowd = admission(max_open_bytes=100, max_request_bytes=1000, max_calls=1)
    crowd.enter("a", size=0, streams=True)
    with pytest.raises(LimitExceededError, match=r"1,001 bytes, and the limit is 1,000 \(max-request-mib\)"):
        crowd.message(1001).__enter__()
    with crowd.message(200):
        assert crowd.open_bytes == 200, "however large, it is alone"
        with pytest.raises(LimitExceededError, match=r"the limit for all is 100 \(max-open-mib\)") as caught:
            crowd.message(1).__enter__()
        assert caught.value.reason == "REQUEST_BYTES_BUSY"
    crowd.close()
    with crowd.message(60), crowd.message(40):  # a stream under way may go on
        assert crowd.open_bytes == 100
    assert crowd.open_bytes == 0


def test_a_call_that_inspects_and_is_answered_at_once() -> None:
    crowd = admission(max_streams=2, max_streams_per_client=1)
    for client in "ab":
        crowd.enter(client, size=1, streams=False)
    with crowd.inspection("a"):
        with pytest.raises(LimitExceededError) as caught:
            crowd.inspection("a").__enter__()
        assert caught.value.reason == "CLIENT_STREAMS_BUSY"
        crowd.leave("a", size=1, streams=False)
        assert crowd.clients == 2, "its answer has not left yet"
        with crowd.inspection("b"):
            assert refusal(crowd, "c", streams=True).reason == "STREAMS_BUSY"
    assert crowd.clients == 1
    crowd.enter("c", size=1, streams=True)


def test_answers_that_are_put_together() -> None:
    crowd = admission(max_open_bytes=100)
    crowd.enter("a", size=10, streams=False)
    with crowd.answer(200, request=10):
        assert crowd.open_bytes == 210, "however large, it is alone"
    crowd.enter("b", size=10, streams=False)
    with pytest.raises(LimitExceededError) as caught:
        crowd.answer(91, request=10).__enter__()
    assert caught.value.message.startswith(
        "this answer would have 91 bytes, other calls have 10, and the limit for all is 100 (max-open-mib): ask again"
    )
    with crowd.answer(90, request=10):
        assert refusal(crowd, "c", 1).reason == "REQUEST_BYTES_BUSY"
    assert crowd.open_bytes == 20


def test_who_watches_is_in_nobodys_way_and_nobody_in_theirs() -> None:
    crowd = admission(max_watches=3, max_watches_per_client=2, max_calls=1)
    crowd.enter("a", size=1, streams=False)
    with crowd.watch("a"), crowd.watch("a"):
        with pytest.raises(
            LimitExceededError, match=r"2 watches of this client are open, .*\(max-watches-per-"
        ) as caught:
            crowd.watch("a").__enter__()
        assert caught.value.reason == "CLIENT_WATCHES_BUSY"
        with (
            crowd.watch("b"),
            pytest.raises(LimitExceededError, match=r"3 watches are open, .*\(max-watches\)") as caught,
        ):
            crowd.watch("c").__enter__()
        assert caught.value.reason == "WATCHES_BUSY"
        assert crowd.clients == 1, "who only watches has no call"
        crowd.close()
        with crowd.watch("b"):
            pass  # who watches is told that it drains
    with crowd.watch("a"), crowd.watch("a"):
        pass
