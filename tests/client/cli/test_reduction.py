"""Reductions as words of the command line."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import click
import pytest

from fluoroscope import (
    Correlation,
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
from fluoroscope.cli.reduction import FORMS, read_reductions

if TYPE_CHECKING:
    from tests.client.cli.conftest import Run

    from fluoroscope import (
        Reduction,
    )

MEANT: list[tuple[str, Reduction[Any]]] = [
    ("full", Full()),
    ("statistics", Statistics()),
    ("histogram", Histogram(bins=50)),
    ("histogram:20", Histogram(bins=20)),
    ("histogram:bins=50,low=0,high=1e3", Histogram(bins=50, low=0, high=1000)),
    ("histogram:high=-0.5", Histogram(high=-0.5)),
    ("quantiles:0.05,0.5,0.95", Quantiles(0.05, 0.5, 0.95)),
    ("quantiles:probabilities=0.5,1", Quantiles(0.5, 1)),
    ("norm", Norm()),
    ("norm:-1", Norm(axes=-1)),
    ("norm:0,1,order=inf", Norm(axes=(0, 1), order=math.inf)),
    ("norm:order=1,axes=-2,-1", Norm(axes=(-2, -1), order=1)),
    ("mean:axes=0", Mean(axes=0)),
    ("topk:k=10", TopK(10)),
    ("topk:3", TopK(3)),
    ("dead", DeadUnits()),
    ("covariance", Covariance()),
    ("correlation", Correlation()),
]


@pytest.mark.parametrize(("word", "reduction"), MEANT)
def test_a_word_and_what_it_means(word: str, reduction: Reduction[Any]) -> None:
    assert read_reductions((word,)) == {reduction: word}


def test_every_form_has_an_example() -> None:
    assert {word.partition(":")[0] for word, _ in MEANT} == set(FORMS)


def test_the_same_in_other_words_is_asked_for_once() -> None:
    assert list(read_reductions(("topk:3", "topk:k=3", "topk:4"))) == [TopK(3), TopK(4)]


@pytest.mark.parametrize(
    ("word", "message"),
    [
        (
            "histgram",
            "'histgram' is no reduction; choose from full, statistics, histogram, quantiles, norm, mean, topk",
        ),
        ("", "'' is no reduction"),
        ("histogram:size=3", "'size=3' is no parameter; those that there are: bins, low, high"),
        ("histogram:bins=ten", "bins is 'ten'; expected one whole number"),
        ("histogram:bins=1,2", "bins is '1, 2'; expected one whole number"),
        ("histogram:bins=1,bins=2", "bins is given twice"),
        ("histogram:low=a", "low is 'a'; expected one number"),
        ("histogram:low=nan", "NaN is no number to ask with"),
        ("histogram:", "bins is ''; expected one whole number"),
        ("quantiles:half", "probabilities is 'half'; expected numbers"),
        ("norm:order=3", "the order of a norm is 3.0; expected 1, 2 or math.inf"),
        ("norm:x", "axes is 'x'; expected whole numbers"),
        ("mean:99999999999", "Value out of range"),
        ("topk", "say how many, such as in topk:10"),
        ("quantiles", "say which, such as in quantiles:0.05,0.5,0.95"),
        ("topk:0", "k is 0"),
        ("dead:3", "'3' is no parameter; those that there are: none"),
        ("full:", "'' is no parameter"),
    ],
)
def test_a_word_that_means_nothing(word: str, message: str) -> None:
    with pytest.raises(click.BadParameter) as caught:
        read_reductions((word,))
    assert message in caught.value.message


def test_the_help_teaches_every_reduction(run: Run) -> None:
    printed = run("inspect", "--help").stdout
    assert all(f"  {name} " in printed for name in FORMS)


def test_a_wrong_word_ends_with_the_choices(run: Run) -> None:
    result = run("inspect", "digits", "--reduce", "histgram:3")
    assert result.exit_code == 2
    assert "choose from full, statistics, histogram" in result.stderr
