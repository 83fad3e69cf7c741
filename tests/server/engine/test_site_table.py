"""The selection of sites by names and globs."""

from __future__ import annotations

import numpy as np
import pytest

from fluoroscope_server.engine import Site, SiteKind, SiteTable
from fluoroscope_server.errors import InvalidRequestError, LimitExceededError, NotCapturableError, NotFoundError
from fluoroscope_server.signature import BATCH


def site(order: int, path: str, kind: SiteKind, reason: str = "") -> Site:
    return Site(path=path, kind=kind, dtype=np.dtype(np.float32), shape=(BATCH, 3), order=order, reason=reason)


TABLE = SiteTable(
    [
        site(0, "Dense_0/add:0", SiteKind.EQUATION),
        site(1, "Dense_0", SiteKind.MODULE),
        site(3, "relu:0", SiteKind.EQUATION),
        site(4, "merged", SiteKind.NAMED, reason="it is odd"),
        site(5, "layers[0]/mlp", SiteKind.MODULE),
        site(6, "what*", SiteKind.NAMED),
        site(7, "whatever", SiteKind.NAMED),
    ]
)


def paths(*globs: str, kinds: tuple[SiteKind, ...] = ()) -> list[str]:
    return [each.path for each in TABLE.select(globs, kinds, field="captures[2]")]


def test_select() -> None:
    assert paths("Dense_0") == ["Dense_0"]
    assert paths("relu:0", "Dense_0", "relu:0", "Dense_*") == ["Dense_0", "relu:0"]
    assert paths("layers[0]/*") == ["layers[0]/mlp"]
    assert paths("**", kinds=(SiteKind.MODULE,)) == ["Dense_0", "layers[0]/mlp"]


def test_select_leaves_out_what_a_glob_matches_but_nobody_can_capture() -> None:
    assert "merged" not in paths("**")
    with pytest.raises(NotCapturableError, match="site 'merged' cannot be captured: it is odd"):
        paths("mer*")


def test_a_site_whose_name_is_a_glob_is_meant_by_its_name() -> None:
    assert paths("what*") == ["what*"]
    assert paths("wha*") == ["what*", "whatever"]


@pytest.mark.parametrize(
    ("globs", "kinds", "error", "field", "message"),
    [
        ((), (), InvalidRequestError, "captures[2]", r"captures\[2\].sites is empty; name a site, or use"),
        (("relu:1",), (), NotFoundError, "captures[2].sites[0]", "there is no site 'relu:1'; nearest: 'relu:0'"),
        (("relu:0", ""), (), NotFoundError, "captures[2].sites[1]", "there is no site ''"),
        (
            ("Dnse_*",),
            (),
            InvalidRequestError,
            "captures[2].sites[0]",
            r"the glob 'Dnse_\*' matches none of the 7 sites; nearest: 'Dense_0'",
        ),
        (
            ("relu*",),
            (SiteKind.MODULE,),
            InvalidRequestError,
            "captures[2].sites[0]",
            "matches none of the 7 sites, and 1 of other kinds than asked for",
        ),
        (
            ("relu:0",),
            (SiteKind.NAMED, SiteKind.MODULE),
            InvalidRequestError,
            "captures[2].sites[0]",
            "site 'relu:0' is of kind EQUATION, and kinds asks for MODULE or NAMED",
        ),
        (
            ("merged",),
            (),
            NotCapturableError,
            "captures[2].sites[0]",
            "site 'merged' cannot be captured: it is odd",
        ),
    ],
)
def test_select_refuses(
    globs: tuple[str, ...], kinds: tuple[SiteKind, ...], error: type[Exception], field: str, message: str
) -> None:
    with pytest.raises(error, match=message) as caught:
        paths(*globs, kinds=kinds)
    assert getattr(caught.value, "field", None) == field


def test_an_empty_network_has_no_sites_to_name() -> None:
    with pytest.raises(NotFoundError, match="nearest: there are none"):
        SiteTable([]).select(["a"], (), field="captures[0]")


def test_matching_lists_all_that_match_capturable_or_not() -> None:
    def listed(*globs: str, kinds: tuple[SiteKind, ...] = ()) -> list[str]:
        return [each.path for each in TABLE.matching(globs, kinds)]

    assert listed() == [each.path for each in TABLE]
    assert listed("mer*", "Dense_0/**") == ["Dense_0/add:0", "merged"]
    assert listed(kinds=(SiteKind.NAMED,)) == ["merged", "what*", "whatever"]
    assert listed("what*") == ["what*", "whatever"]
    assert listed("nothing", "no*thing") == []
    with pytest.raises(LimitExceededError):
        listed(*(f"{index}*" for index in range(501)))


def test_globs_are_held_against_no_more_paths_than_a_moment_allows() -> None:
    few, many = [("**", "**", "relu:0")] * 357_142, [("**",)] * 357_143
    TABLE.check(few, field="captures")
    with pytest.raises(
        LimitExceededError,
        match=r"357,143 globs, those that come again counted again, on the 7 sites .* 2,500,000 comp",
    ) as caught:
        TABLE.check(many, field="captures")
    assert (caught.value.field, caught.value.reason) == ("captures", "TOO_MANY_GLOBS")


def test_lookup() -> None:
    assert len(TABLE) == 7
    assert TABLE["relu:0"].order == 3
    assert TABLE["relu:0"].batch_axis == 0
