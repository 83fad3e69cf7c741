"""The engine: one network with its weights on a device, and the programs that run it."""

from __future__ import annotations

import bisect
import functools
import itertools
import time
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from fluoroscope_server.engine.compile_queue import CompileQueue
from fluoroscope_server.engine.cost import Cost
from fluoroscope_server.engine.difference import compile_differences
from fluoroscope_server.engine.gradient import put_into, refusal_of
from fluoroscope_server.engine.inspection import Execution, resolve
from fluoroscope_server.engine.parameters import (
    compile_parameters,
    leaf_count,
    list_parameters,
    needs_compiler,
    resolve_parameters,
)
from fluoroscope_server.engine.placing import place
from fluoroscope_server.engine.prediction import prediction
from fluoroscope_server.engine.probing import Rows, alike_in, probe
from fluoroscope_server.engine.program import compile_program
from fluoroscope_server.engine.program_cache import ProgramCache, Requested
from fluoroscope_server.engine.question import pose
from fluoroscope_server.engine.target import choose
from fluoroscope_server.engine.traced import trace
from fluoroscope_server.errors import InvalidRequestError, LimitExceededError, counted
from fluoroscope_server.families import abstract_inputs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from fluoroscope_server.engine.capture import Capture
    from fluoroscope_server.engine.difference import DifferencePrograms, Pairs
    from fluoroscope_server.engine.edit import Edit
    from fluoroscope_server.engine.gradient import Gradient
    from fluoroscope_server.engine.inspection import Inspection
    from fluoroscope_server.engine.plan import Plan
    from fluoroscope_server.engine.program import Program, Results
    from fluoroscope_server.engine.site_table import SiteTable
    from fluoroscope_server.families import Network, Variables
    from fluoroscope_server.signature import Signature


PROBE_SECONDS = 1.0
"""A bucket is not probed any more when the smaller ones took so long."""

WARM_UP_SECONDS = 0.02
"""How long each bucket is run again and again before it serves."""

SLOW_SECONDS = 1.0
"""A run that takes longer has nothing to gain from warming up, nor have those of larger buckets."""


class Engine:
    """Answers questions about one network.

    It is made and warmed up by the thread that loads it. From then on, until it is closed, the event loop and all
    threads of the device queue use it at once.
    """

    def __init__(
        self,
        network: Network,
        variables: Variables,
        *,
        buckets: Sequence[int],
        capacity: int = 256,
        max_compiles: int = 32,
        on_compile: Callable[[float], None] = lambda _: None,
    ) -> None:
        """Traces the network and compiles `Predict` for each bucket.

        Args:
            network: the network.
            variables: its variables, arrays on the device, in the structure of `network.variables`.
            buckets: the batch sizes to compile for, ascending.
            capacity: how many compiled inspections to hold.
            max_compiles: how many inspections and comparisons may be compiled or wait for that at once.
            on_compile: told of each compilation, with its seconds.

        Raises:
            ConfigError: the network cannot be traced.
        """
        self.signature: Signature = network.signature
        self.buckets = tuple(buckets)
        self._leaves: tuple[jax.Array, ...] = tuple(jax.tree.leaves(variables))
        self.parameters: SiteTable = list_parameters(variables)
        self._traced = trace(network, buckets)
        self._rows = Rows.APART if self._traced.mixed.outputs is False else Rows.MIXED
        self._on_compile = on_compile
        self._queue = CompileQueue(max_compiles)
        self._programs: ProgramCache[Plan, Program] = ProgramCache(
            self._compile, capacity=capacity, queue=self._queue, on_compile=on_compile
        )
        self._differences: ProgramCache[Pairs, DifferencePrograms] = ProgramCache(
            compile_differences, capacity=capacity, queue=self._queue, on_compile=on_compile
        )
        self.seconds: dict[int, float] = dict.fromkeys(self.buckets, float("inf"))
        try:
            self._predictions = {bucket: self._compile_prediction(bucket) for bucket in self.buckets}
        except BaseException:
            self.close()  # who catches this must not hold the weights
            raise

    @property
    def sites(self) -> SiteTable:
        """The sites of the network, in execution order."""
        return self._traced.sites

    @property
    def parameter_count(self) -> int:
        """How many numbers the variables are."""
        return sum(leaf.size for leaf in self._leaves)

    @property
    def parameter_bytes(self) -> int:
        """How many bytes the variables take on the device."""
        return sum(leaf.nbytes for leaf in self._leaves)

    @property
    def device(self) -> str:
        """What the device calls itself."""
        return str(jax.devices()[0].device_kind)

    @property
    def joined_rows(self) -> int:
        """How many rows several requests may have together; 0 if an answer would depend on the others, or its place."""
        return self.buckets[-1] if self._rows is Rows.APART else 0

    def keeps_rows_apart(self, inspection: Inspection) -> bool:
        """Returns whether no value that is captured may depend on rows of others, if it is joined with theirs."""
        sites = (spec.site for spec in inspection.results if spec.site is not None)
        return bool(self.joined_rows) and not any(site.value in self._traced.mixed.values for site in sites)

    def bucket_for(self, rows: int) -> int:
        """Returns the smallest bucket that holds so many rows.

        Raises:
            LimitExceededError: the largest bucket holds fewer.
            InvalidRequestError: no bucket has just so many, and the network mixes the rows of a batch.
        """
        index = bisect.bisect_left(self.buckets, rows)
        if index == len(self.buckets):
            raise LimitExceededError(
                f"the inputs have {counted(rows, 'row')}, and the largest bucket of this model has {self.buckets[-1]}: "
                "send fewer rows in each request, or let the operator add a larger bucket to the model's config",
                field="inputs",
                reason="TOO_MANY_ROWS",
            )
        if self._rows is Rows.MIXED and self.buckets[index] != rows:
            raise InvalidRequestError(
                f"the inputs have {counted(rows, 'row')}, and this network mixes the rows of a batch, so that rows "
                f"to fill a bucket would change its answers: send just {', '.join(map(str, self.buckets))} rows",
                field="inputs",
                reason="ROWS_NOT_A_BUCKET",
            )
        return self.buckets[index]

    def probe_rows(self) -> None:
        """Runs the network to find out what tracing cannot tell of the rows of a batch; see `probing`.

        Where that takes long, larger buckets are taken to be like the smaller ones. Where the only bucket has one row,
        nothing is padded or joined, but requests of several rows are parted: if in doubt, two rows are compiled for it.
        """
        if self._traced.mixed.outputs:
            return
        in_doubt = self._traced.mixed.outputs is None
        self._rows = Rows.APART
        end = time.perf_counter() + PROBE_SECONDS
        for bucket in [size for size in self.buckets if size > 1] or [2] * in_doubt:
            self._rows = probe(self._runner(bucket), self.signature, bucket)
            if self._rows is not Rows.APART or time.perf_counter() > end:
                break
        for small, large in itertools.pairwise(self.buckets if in_doubt else ()):
            if self._rows is Rows.MIXED or time.perf_counter() > end:
                return
            if not alike_in(self.predict, self.signature, small, large):
                self._rows = Rows.MIXED

    def warm_up(self) -> None:
        """Runs each bucket a few times: the first run pays for what later ones do not. Sets `seconds`, by bucket.

        Where a run takes so long that its beginning does not matter, larger buckets are left as they are.
        """
        for bucket in self.buckets:
            inputs = [np.zeros(spec.with_rows(bucket), spec.dtype) for spec in self.signature.inputs]
            end = time.perf_counter() + WARM_UP_SECONDS
            while (start := time.perf_counter()) < end:
                jax.block_until_ready(self.predict(bucket, inputs))
                self.seconds[bucket] = min(self.seconds[bucket], time.perf_counter() - start)
            if self.seconds[bucket] > SLOW_SECONDS:
                return

    def predict(self, bucket: int, inputs: Sequence[np.ndarray]) -> tuple[jax.Array, ...]:
        """Starts the network on the device; the outputs, in the order of the signature, may not be there yet.

        Args:
            bucket: the batch size.
            inputs: the inputs, padded to it, in the order of the signature.
        """
        outputs: tuple[jax.Array, ...] = self._predictions[bucket](self._leaves, tuple(inputs))
        return outputs

    def inspect(
        self,
        captures: Sequence[Capture],
        outputs: Sequence[str],
        *,
        rows: int,
        execution: Execution = Execution.AUTO,
        edits: Sequence[Edit] = (),
        gradient: Gradient | None = None,
    ) -> Inspection:
        """Resolves a question against this network; raises as `resolve`, `choose`, `put_into` and `bucket_for` do."""
        smallest = self.bucket_for(rows)

        def bucket_for(least: int) -> int:
            return smallest if least <= rows or self._rows is Rows.MIXED else self.bucket_for(least)

        targets = choose(edits, self.sites, rows=rows)
        inspection = resolve(
            captures,
            outputs,
            rows=rows,
            bucket_for=bucket_for,
            sites=self.sites,
            signature=self.signature,
            execution=execution,
            least_rows=max((target.site.least_rows for target in targets), default=1),
            refuse=None if gradient is None else functools.partial(refusal_of, traced=self._traced),
        )
        if targets:
            inspection = place(targets, self._traced, rows=rows, bucket=inspection.plan.bucket).put_into(inspection)
        if gradient is not None:
            inspection = put_into(inspection, gradient, self.signature, self.parameters)
        return inspection

    def inspect_parameters(self, captures: Sequence[Capture]) -> Inspection:
        """Resolves a question about the variables of this network; raises as `resolve` does."""
        return resolve_parameters(captures, self.parameters, self.signature)

    def program(self, plan: Plan) -> Requested[Program]:
        """Returns the program of a plan, compiled off the thread that asks; cancel the future to take that back.

        Raises:
            LimitExceededError: it is not held, and too many others are being compiled or wait for that.
        """
        if plan.of_parameters and not needs_compiler(plan):
            ready: Requested[Program] = Requested()
            ready.held = True
            ready.set_result(self._compile(plan))
            return ready
        return self._programs.request(plan)

    def differences(self, pairs: Pairs) -> Requested[DifferencePrograms]:
        """Returns the programs that compare pairs of values; as `program`."""
        return self._differences.request(pairs)

    def held(self, plan: Plan) -> Program | None:
        """Returns the program of a plan if it is held; neither compiles it nor counts as a use."""
        return self._programs.peek(plan)

    def cost(self, inspection: Inspection) -> Cost:
        """Returns what an inspection costs; compiles nothing. Quick if its program is held."""
        plan = inspection.plan
        if plan.of_parameters:
            return Cost(flops=0.0, fraction=0.0, stage_count=leaf_count(plan))
        what = self.held(plan) or pose(plan, self._traced)
        whole = self._traced.flops[plan.bucket]
        flops = what.flops + (whole if inspection.outputs else 0.0)
        return Cost(flops=flops, fraction=flops / whole if whole else 1.0, stage_count=what.stage_count)

    def pin(self, plan: Plan) -> None:
        """Compiles a plan now, if need be, and holds its program for good."""
        self._programs.pin(plan)

    def run(self, program: Program, inputs: Sequence[np.ndarray], inspection: Inspection) -> Iterator[Results]:
        """Runs an inspection on the device, stage after stage, each when it is asked for; yields the results of each.

        Inputs are padded to the program's bucket, in the order of the signature; none if it is of parameters.
        """
        yield from program.run(self._leaves, inputs, inspection)
        if inspection.outputs:
            predicted = self.predict(program.plan.bucket, inputs)
            yield tuple((predicted[self.signature.output_names.index(name)],) for name in inspection.outputs)

    def close(self) -> None:
        """Compiles nothing more, and lets go of the weights and of all programs; nothing runs any more.

        What is on the device at the moment ends as it would have: it holds what it needs.
        """
        self._programs.close()
        self._differences.close()
        self._queue.close()
        self._leaves = ()
        self._predictions = {}

    def _compile(self, plan: Plan) -> Program:
        if plan.of_parameters:
            return compile_parameters(plan, self.parameters, self._structures())
        return compile_program(pose(plan, self._traced), self._structures())

    def _compile_prediction(self, bucket: int) -> Callable[..., Any]:
        start = time.perf_counter()
        inputs = abstract_inputs(self.signature.inputs, bucket)
        function = prediction(self._traced.flat[bucket])
        executable = jax.jit(function).lower(self._structures(), inputs).compile()
        self._on_compile(time.perf_counter() - start)
        return executable

    def _runner(self, rows: int) -> Callable[[int, Sequence[np.ndarray]], tuple[jax.Array, ...]]:
        """Returns `predict`, or the like for a batch size that is no bucket."""
        if rows in self._predictions:
            return self.predict
        compiled = self._compile_prediction(rows)
        return lambda _, inputs: compiled(self._leaves, tuple(inputs))

    def _structures(self) -> tuple[jax.ShapeDtypeStruct, ...]:
        return tuple(jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding) for leaf in self._leaves)
