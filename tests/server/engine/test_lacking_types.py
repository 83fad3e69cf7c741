"""Values of types that JAX has and the contract lacks: their sites say so, and nothing else is different."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.ad_checkpoint import checkpoint_name

from fluoroscope_server.engine import Edit, Zero, pair
from fluoroscope_server.engine.parameters import list_parameters
from fluoroscope_server.errors import NotCapturableError

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.server.engine.conftest import Lab

NAMES = [name for name in ("int1", "uint1", "float6_e2m3fn", "float6_e3m2fn") if hasattr(jnp, name)]
pytestmark = pytest.mark.skipif(not NAMES, reason="this JAX has no type that the contract lacks")
RUN = "int1"
"""The one that processors compute with."""


def through(name: str) -> Callable[[Any, dict[str, jax.Array]], Any]:
    """A network that has its input in a type, and goes on with that if it can be run."""

    def apply(_: Any, inputs: dict[str, jax.Array]) -> Any:
        x = checkpoint_name(inputs["x"] * 2, "before")
        odd = checkpoint_name(x.astype(getattr(jnp, name)), "odd")
        return checkpoint_name(odd.astype(jnp.float32) if name in {RUN, "float32"} else x, "after")

    return apply


@pytest.fixture(scope="module")
def labs(function_lab: Callable[..., Lab]) -> dict[str, Lab]:
    return {name: function_lab(through(name)) for name in (*NAMES, "float32")}


@pytest.mark.parametrize("name", NAMES)
def test_such_a_site_is_listed_and_says_why_it_cannot_be_captured(labs: dict[str, Lab], name: str) -> None:
    sites = labs[name].engine.sites
    reason = f"it is {name}, and the contract has no such type; capture what it is made of"
    assert {site.path: site.reason for site in sites if site.path in {"before", "odd", "after"}} == {
        "before": "",
        "odd": reason,
        "after": "",
    }
    with pytest.raises(NotCapturableError, match=f"site 'odd' cannot be captured: {reason}"):
        labs[name].inspect("odd")
    with pytest.raises(NotCapturableError, match="site 'odd' cannot be captured"):
        labs[name].inspect("before", edits=[Edit(sites=("odd",), change=Zero())])
    assert [spec.name for spec in labs[name].inspect("**", kinds=(sites["odd"].kind,)).results] == ["before", "after"]


@pytest.mark.skipif(RUN not in NAMES, reason="this JAX lacks it")
def test_what_is_around_it_is_captured(labs: dict[str, Lab]) -> None:
    x = np.array([[0, 0.5, 0, -0.5]] * 3, np.float32)
    found = labs[RUN].capture("before", "after", x=x)
    np.testing.assert_array_equal(found["before"], 2 * x)
    np.testing.assert_array_equal(found["after"] != 0, x != 0)
    np.testing.assert_array_equal(labs[RUN].predict(x)[0], found["after"])


def test_such_a_parameter_is_listed_and_says_why_it_cannot_be_read() -> None:
    (site,) = list_parameters({"odd": jax.ShapeDtypeStruct((2, 3), getattr(jnp, NAMES[0]))})
    assert (site.path, site.shape) == ("odd", (2, 3))
    assert site.reason == f"it is {NAMES[0]}, and the contract has no such type; capture what it is made of"


def test_no_comparison_at_such_a_site(labs: dict[str, Lab]) -> None:
    odd, plain = (labs[name].engine for name in (NAMES[0], "float32"))
    with pytest.raises(NotCapturableError, match="site 'odd' cannot be captured"):
        pair(odd, odd, ["before", "odd"], (), rows=2)
    found = {each.left.path: each.reason for each in pair(plain, odd, ["before", "odd"], (), rows=2).sites}
    assert found == {
        "before": "",
        "odd": f"the right side cannot capture it: {odd.sites['odd'].reason}",
    }
