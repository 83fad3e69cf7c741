"""Parameters: the variables of a network as sites, and the programs that reduce them.

They are there before anything runs. So a program of them is one stage for each leaf, whose result is let go before the
next leaf's is made; leaves of the same shape and dtype that are asked the same share what was compiled; and a leaf that
is wanted as it is needs no compiler at all.
"""

from __future__ import annotations

import itertools
import time
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from fluoroscope_server.engine.arguments import split_arguments, structure_of
from fluoroscope_server.engine.captures import Captures
from fluoroscope_server.engine.inspection import resolve
from fluoroscope_server.engine.program import Program
from fluoroscope_server.engine.reductions import Full
from fluoroscope_server.engine.site import Site, SiteKind, unsendable
from fluoroscope_server.engine.site_table import SiteTable
from fluoroscope_server.engine.stage import Stage
from fluoroscope_server.errors import InvalidRequestError

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

    from fluoroscope_server.engine.capture import Capture
    from fluoroscope_server.engine.captures import Arrays
    from fluoroscope_server.engine.inspection import Inspection
    from fluoroscope_server.engine.plan import CapturedValue, Plan
    from fluoroscope_server.families import Variables
    from fluoroscope_server.signature import Signature

ONLY_LEAF = "variables"
"""The path of variables that are one array, and no tree."""


def list_parameters(variables: Variables) -> SiteTable:
    """Returns a site for each leaf of the variables, in the order of the tree; the order of a site counts all leaves.

    A path is that of the leaf in the tree, joined with slashes: `params/Dense_0/kernel`, `batch_stats/bn/mean`; for NNX
    that of the variable in the module: `blocks/0/linear/kernel`. Random keys are no numbers, and have no site.
    """
    sites = []
    counts: Counter[str] = Counter()
    for order, (place, leaf) in enumerate(jax.tree_util.tree_leaves_with_path(variables)):
        path = jax.tree_util.keystr(place, simple=True, separator="/") or ONLY_LEAF
        counts[path] += 1
        if counts[path] > 1:  # a key may have a slash in it, or be a number in one place and its digits in another
            path = f"{path}:{counts[path] - 1}"
        if not jax.numpy.issubdtype(leaf.dtype, jax.dtypes.extended):
            dtype = np.dtype(leaf.dtype)
            sites.append(
                Site(
                    path=path,
                    kind=SiteKind.PARAMETER,
                    dtype=dtype,
                    shape=tuple(leaf.shape),
                    order=order,
                    reason=unsendable(dtype),
                    value=path,
                )
            )
    return SiteTable(sites)


def resolve_parameters(captures: Sequence[Capture], sites: SiteTable, signature: Signature) -> Inspection:
    """Resolves a question about parameters; raises as `resolve` does."""
    if not captures:
        raise InvalidRequestError("captures is empty; the glob '**' names all parameters", field="captures")
    found = resolve(captures, (), rows=1, bucket_for=lambda rows: rows, sites=sites, signature=signature)
    return replace(found, rows=0, plan=replace(found.plan, bucket=0, staged=True))


def needs_compiler(plan: Plan) -> bool:
    """Returns whether a plan of parameters does anything to them but send them."""
    return not all(map(_is_whole, plan.captured))


def leaf_count(plan: Plan) -> int:
    """Returns how many leaves a plan of parameters is of."""
    return len({captured.site for captured in plan.captured})


def compile_parameters(plan: Plan, sites: SiteTable, leaves: Sequence[jax.ShapeDtypeStruct]) -> Program:
    """Compiles a plan of parameters for leaves of these shapes, dtypes and shardings. Quick if it only sends them."""
    start = time.perf_counter()
    compiler = _Compiler()
    stages = []
    for path, group in itertools.groupby(enumerate(plan.captured), key=lambda each: each[1].site):
        places, captured = zip(*group, strict=True)
        order = sites[path].order
        stages.append(compiler.stage(order, leaves[order], places, captured))
    return Program(
        plan=plan,
        stages=tuple(stages),
        constants={},
        variables=tuple(range(len(leaves))),
        flops=0.0,
        peak_bytes=compiler.peak_bytes,
        compile_seconds=time.perf_counter() - start,
    )


def _is_whole(captured: CapturedValue) -> bool:
    return not captured.cuts and captured.reduction == Full()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Leaf:
    """What is done to one leaf; the executable of its stage."""

    executable: Any
    """Computes the results of those captured values that are not the leaf itself; None if there are none."""

    whole: tuple[bool, ...]
    """For each captured value, whether it is the leaf itself."""

    def __call__(self, values: Any, scalars: Any, rows: Any, arguments: Any) -> tuple[Arrays, ...]:  # noqa: ARG002 (of every stage)
        (leaf,) = values
        results = iter(() if self.executable is None else self.executable(leaf, arguments))  # what is whole has none
        return tuple((_alias(leaf),) if whole else next(results) for whole in self.whole)


class _Compiler:
    """Compiles what is done to leaves, once for all that are alike."""

    def __init__(self) -> None:
        self._compiled: dict[Hashable, Any] = {}
        self.peak_bytes = 0

    def stage(
        self, order: int, leaf: jax.ShapeDtypeStruct, places: Sequence[int], captured: Sequence[CapturedValue]
    ) -> Stage:
        """Returns the stage of one leaf, which gives the results of these captured values."""
        whole = tuple(map(_is_whole, captured))
        reduced = tuple(each for each, plain in zip(captured, whole, strict=True) if not plain)
        return Stage(
            executable=_Leaf(executable=self._executable(leaf, reduced) if reduced else None, whole=whole),
            whole=_results_only,
            inputs=(order,),
            outputs=(),
            places=tuple(places),
            released=(order,),
        )

    def _executable(self, leaf: jax.ShapeDtypeStruct, captured: tuple[CapturedValue, ...]) -> Any:
        key = (leaf.shape, leaf.dtype, leaf.sharding, tuple((each.cuts, each.reduction) for each in captured))
        if key not in self._compiled:
            executable = self._compiled[key] = _lowered(leaf, captured).compile()
            analysis = executable.memory_analysis()
            if analysis is not None:
                size = int(analysis.temp_size_in_bytes + analysis.output_size_in_bytes)
                self.peak_bytes = max(self.peak_bytes, size)
        return self._compiled[key]


def _lowered(leaf: jax.ShapeDtypeStruct, captured: tuple[CapturedValue, ...]) -> Any:
    def reduce(value: jax.Array, arguments: Any) -> tuple[Arrays, ...]:
        captures = Captures(
            captured=captured,
            batch_axes=(None,) * len(captured),
            rows=jax.numpy.zeros((), np.int32),
            arguments=split_arguments(captured, range(len(captured)), arguments),
        )
        return tuple(captures.reduce(place, value) for place in range(len(captured)))

    return jax.jit(reduce).lower(leaf, structure_of(captured))


def _results_only(arrays: Sequence[Arrays]) -> tuple[tuple[()], Sequence[Arrays]]:
    return (), arrays


def _alias(leaf: jax.Array) -> jax.Array:
    """Returns another array of the same buffers.

    JAX keeps what it has copied to the host as long as the array lives, and the network's own live as long as it.
    """
    shards = [leaf.addressable_data(index) for index in range(len(leaf.sharding.addressable_devices))]
    return jax.make_array_from_single_device_arrays(leaf.shape, leaf.sharding, shards)
