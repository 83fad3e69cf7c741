from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version

import pytest

import fluoroscope
from fluoroscope.calls import errors


def modules_after(statement: str) -> set[str]:
    """The top-level modules that a fresh interpreter has after a statement."""
    program = f"import sys\n{statement}\nprint(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    return set(done.stdout.split())


@pytest.mark.parametrize(
    "statement", ["from fluoroscope import *", "import fluoroscope.cli", "import fluoroscope.wire"]
)
def test_there_is_no_jax_on_this_side(statement: str) -> None:
    found = modules_after(statement)

    assert "fluoroscope" in found
    assert not found & {"jax", "jaxlib", "flax", "orbax", "prometheus_client", "fluoroscope_server"}


def test_the_wire_needs_no_grpc() -> None:
    assert not modules_after("import fluoroscope.wire") & {"grpc", "click", "rich", "PIL"}


def test_every_public_name_is_there() -> None:
    for name in fluoroscope.__all__:
        assert getattr(fluoroscope, name) is not None
    assert set(dir(fluoroscope)) == set(fluoroscope.__all__)


def test_every_error_is_public() -> None:
    found = {name for name, value in vars(errors).items() if isinstance(value, type) and issubclass(value, Exception)}

    assert found <= set(fluoroscope.__all__)


def test_the_tree_of_errors_is_the_one_that_its_words_draw() -> None:
    assert errors.__doc__ is not None
    for name, value in vars(errors).items():
        if isinstance(value, type):
            assert name in errors.__doc__


def test_a_misspelt_name_is_an_error() -> None:
    with pytest.raises(AttributeError, match=r"module 'fluoroscope' has no attribute 'Clint'"):
        fluoroscope.Clint  # type: ignore[attr-defined]  # noqa: B018  # the mistake


def test_the_version_is_that_of_the_distribution() -> None:
    assert fluoroscope.__version__ == version("fluoroscope")
