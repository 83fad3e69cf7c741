"""Properties over random networks: whatever they are made of, what is captured is what they compute."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st

from fluoroscope_server.engine import Execution, SiteKind, SiteStatistics, Statistics
from fluoroscope_server.families.nnx import nnx_network

from .conftest import Lab

if TYPE_CHECKING:
    from collections.abc import Callable

    from fluoroscope_server.model_config import ModelConfig

WIDTH = 8
ROWS = 4
LAYERS = ("dense", "norm", "residual", "conv", "attention", "scan", "remat", "remat of scan", "shared", "pair")


class Block(nn.Module):
    """A residual block."""

    @nn.compact
    def __call__(self, x: jax.Array, _: Any = None) -> Any:
        return x + nn.Dense(WIDTH, name="out")(nn.gelu(nn.Dense(WIDTH, name="in")(nn.LayerNorm(name="norm")(x)))), None


class Attention(nn.Module):
    """Self-attention over the features, in pairs."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        tokens = x.reshape(x.shape[0], 2, WIDTH // 2)
        tokens = nn.MultiHeadDotProductAttention(num_heads=2)(tokens)
        flat: jax.Array = tokens.reshape(x.shape)
        return flat


class Pair(nn.Module):
    """A module that returns more than one array."""

    @nn.compact
    def __call__(self, x: jax.Array) -> dict[str, jax.Array]:
        return {"left": nn.Dense(WIDTH)(x), "right": nn.tanh(x)}


class Network(nn.Module):
    """Layers of any kinds, one behind the other."""

    layers: tuple[str, ...]

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = nn.Dense(WIDTH)(x)
        shared = nn.Dense(WIDTH, name="shared") if "shared" in self.layers else None
        for number, kind in enumerate(self.layers):
            x = layer(kind, number, x, shared)
        head: jax.Array = nn.Dense(3, name="head")(x)
        return head


def layer(kind: str, number: int, x: jax.Array, shared: nn.Module | None) -> jax.Array:
    result: Any = x
    if kind == "dense":
        result = nn.relu(nn.Dense(WIDTH)(x))
    elif kind == "norm":
        result = nn.LayerNorm()(x)
    elif kind == "conv":
        result = nn.Conv(1, (3,))(x[..., None])[..., 0]
    elif kind == "attention":
        result = Attention()(x)
    elif kind in {"residual", "remat"}:
        block = nn.remat(Block) if kind == "remat" else Block
        result = block(name=f"block_{number}")(x, None)[0]
    elif "scan" in kind:
        block = nn.remat(Block) if "remat" in kind else Block
        axes: Any = {"params": 0, "intermediates": 0}
        scanned = nn.scan(block, variable_axes=axes, split_rngs={"params": True}, length=3)
        result = scanned(name=f"stack_{number}")(x, None)[0]
    elif kind == "shared" and shared is not None:
        result = nn.tanh(shared(x))
    elif kind == "pair":
        pair = Pair()(x)
        result = pair["left"] * pair["right"]
    return jnp.asarray(result)


NETWORKS = st.lists(st.sampled_from(LAYERS), max_size=4).map(tuple)


def intermediates(module: nn.Module, variables: Any, x: np.ndarray) -> dict[str, np.ndarray]:
    """Returns what Flax itself captures, by the names of our sites; of a scan, stacked."""
    _, state = module.apply(variables, x, capture_intermediates=True)
    found: dict[str, np.ndarray] = {}
    for place, leaf in jax.tree_util.tree_leaves_with_path(state["intermediates"]):
        names = [str(getattr(key, "key", getattr(key, "idx", ""))) for key in place]
        end = names.index("__call__")
        call, inner = names[end + 1], names[end + 2 :]
        path = "/".join(names[:end]) or "__call__"
        path = path.replace(names[0], names[0] + "[*]") if names[0].startswith("stack_") else path
        alone = inner == ["0"] and not names[0].startswith("Pair")  # the carry, beside None
        path += f":{call}" if call != "0" else ""
        found["/".join([path, *([] if alone else inner)])] = np.asarray(leaf)
    return found


def close(mine: Any, theirs: Any) -> None:
    np.testing.assert_allclose(np.asarray(mine), np.asarray(theirs), rtol=2e-4, atol=2e-5)


@settings(deadline=None, max_examples=8)
@given(layers=NETWORKS, rows=st.integers(1, ROWS))
def test_modules_are_what_flax_captures(linen_lab: Callable[..., Lab], layers: tuple[str, ...], rows: int) -> None:
    """Every module, fused and staged, with rows that fill the bucket; and Predict does not change."""
    module = Network(layers=layers)
    lab = linen_lab(module)
    x = np.random.default_rng(rows).normal(size=(rows, 4)).astype(np.float32)
    expected = intermediates(module, lab.variables, x)
    stacked = [path for path in expected if "[*]" in path]
    paths = [site.path for site in lab.engine.sites if site.kind is SiteKind.MODULE]
    assert set(expected) <= set(paths)
    assert {path for path in paths if "[" not in path} == {path for path in expected if "[" not in path}
    plain = lab.predict(x)[0]
    close(plain, expected["__call__"])
    question: dict[str, Any] = {"x": x, "kinds": [SiteKind.MODULE], "outputs": ["output"], "padding": 1e6}
    fused, staged = (
        lab.capture("**", *stacked, execution=execution, **question)
        for execution in (Execution.FUSED, Execution.STAGED)
    )
    assert list(fused) == list(staged)
    for captured in (fused, staged):
        np.testing.assert_array_equal(captured["output"], plain, strict=True)
        for path, value in captured.items():
            name, bracket, rest = path.partition("[")
            index, _, inner = rest.partition("]")
            if path in expected:
                close(value, expected[path])
            elif bracket:
                close(value, expected[f"{name}[*]{inner}"][int(index)])
    for path, value in fused.items():
        close(staged[path], value)


@settings(deadline=None, max_examples=4)
@given(layers=NETWORKS, rows=st.integers(1, ROWS), staged=st.booleans())
def test_statistics_are_those_of_the_values(
    linen_lab: Callable[..., Lab], layers: tuple[str, ...], rows: int, staged: bool
) -> None:
    """Of every module, reduced on the device, with rows that fill the bucket."""
    lab = linen_lab(Network(layers=layers))
    x = np.random.default_rng(rows).normal(size=(rows, 4)).astype(np.float32)
    execution = Execution.STAGED if staged else Execution.FUSED
    question: dict[str, Any] = {"x": x, "kinds": [SiteKind.MODULE], "execution": execution}
    values = lab.capture("**", **question)
    reduced = lab.capture("**", reductions=[Statistics()], padding=1e6, **question)
    assert list(values) == list(reduced)
    for path, statistics in reduced.items():
        wide = np.asarray(values[path]).astype(np.float64)
        assert isinstance(statistics, SiteStatistics)
        assert statistics.count == wide.size
        scale = max(1.0, float(np.abs(wide).max(initial=0)))
        for mine, theirs in (
            (statistics.mean, wide.mean()),
            (statistics.std, wide.std()),
            (statistics.max, wide.max()),
        ):
            assert abs(mine - theirs) < 1e-4 * scale, path


class NnxNetwork(nnx.Module):
    """Layers of NNX, instrumented by hand: it can return what each computes."""

    def __init__(self, kinds: tuple[str, ...], rngs: nnx.Rngs) -> None:
        makers: dict[str, Any] = {
            "linear": lambda: nnx.Linear(WIDTH, WIDTH, rngs=rngs),
            "norm": lambda: nnx.LayerNorm(WIDTH, rngs=rngs),
            "conv": lambda: nnx.Conv(WIDTH, WIDTH, (1,), rngs=rngs),
            "dropout": lambda: nnx.Dropout(0.5, rngs=rngs),
        }
        self.first = nnx.Linear(4, WIDTH, rngs=rngs)
        self.layers = nnx.List([makers[kind]() for kind in kinds])

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.values(x)[-1]

    def values(self, x: jax.Array) -> list[jax.Array]:
        found = [self.first(x)]
        for layer in self.layers:
            found.append(layer(nnx.relu(found[-1]) if isinstance(layer, nnx.Conv) else found[-1]))
        return found


@settings(deadline=None, max_examples=6)
@given(
    kinds=st.lists(st.sampled_from(["linear", "norm", "conv", "dropout"]), max_size=4).map(tuple),
    rows=st.integers(1, ROWS),
    staged=st.booleans(),
)
def test_nnx_modules_are_those_of_an_instrumented_twin(
    config: Callable[..., ModelConfig], kinds: tuple[str, ...], rows: int, staged: bool
) -> None:
    module = NnxNetwork(kinds, nnx.Rngs(len(kinds)))
    module.eval()  # type: ignore[no-untyped-call]  # its authors left it untyped
    x = np.random.default_rng(rows).normal(size=(rows, 4)).astype(np.float32)
    expected = [np.asarray(value) for value in module.values(jnp.asarray(x))]
    variables = nnx.to_pure_dict(nnx.state(module, nnx.Not(nnx.RngState)))
    lab = Lab(nnx_network(module, config()), variables)
    captured = lab.capture(
        "**", x=x, kinds=[SiteKind.MODULE], execution=Execution.STAGED if staged else Execution.FUSED
    )
    assert list(captured) == ["first", *(f"layers/{index}" for index in range(len(kinds))), "__call__"]
    for value, theirs in zip(captured.values(), [*expected, expected[-1]], strict=True):
        close(value, theirs)
