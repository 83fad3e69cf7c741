"""Gradients: what a request asks for, and what that means for a network."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import jax.numpy as jnp
import numpy as np

from fluoroscope_server.engine import jaxprs
from fluoroscope_server.engine.glob import check_globs, compile_glob
from fluoroscope_server.engine.inspection import check_results
from fluoroscope_server.engine.plan import CapturedValue, Origin, PlannedGradient
from fluoroscope_server.engine.reductions import Full, ValueSpec
from fluoroscope_server.engine.result_spec import results_of
from fluoroscope_server.engine.site import Site, SiteKind
from fluoroscope_server.errors import InvalidRequestError, NotCapturableError, nearest, quoted

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from fluoroscope_server.engine.inspection import Inspection
    from fluoroscope_server.engine.plan import Objective
    from fluoroscope_server.engine.reductions import Reduction
    from fluoroscope_server.engine.result_spec import ResultSpec
    from fluoroscope_server.engine.site_table import SiteTable
    from fluoroscope_server.engine.traced import TracedNetwork
    from fluoroscope_server.signature import Signature, TensorSpec

FIELD = "gradient"
"""The field of a request that it is in."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Gradient:
    """Of what to take the gradient, and with respect to what besides the captured sites."""

    output: str
    """The name of the output that the scalar is made of."""

    objective: Objective
    """How."""

    indices: np.ndarray
    """Integers: for each place of the output but those of its last axis, which index of that; or fewer, which
    broadcast. Negative ones leave the place out."""

    inputs: tuple[str, ...] = ()
    """Names and globs of inputs."""

    parameters: tuple[str, ...] = ()
    """Names and globs of parameters."""

    reductions: tuple[Reduction, ...] = (Full(),)
    """What to compute of the gradients with respect to inputs and parameters."""


def refusal_of(site: Site, traced: TracedNetwork | None = None) -> str:
    """Returns why there is no gradient with respect to a site, or a parameter; empty if there is one."""
    if not jnp.issubdtype(site.dtype, jnp.floating):
        return f"it is {site.dtype}, and gradients are of floats"
    found = [] if traced is None else [each[site.value] for each in traced.values.values() if site.value in each]
    if any(jaxprs.is_literal(value.atom) for value in found):
        return "it is a constant of the network"
    if any(value.opaque for value in found):
        return "it is inside a function whose derivative its author wrote: ask for what that function returns"
    return ""


def put_into(inspection: Inspection, gradient: Gradient, signature: Signature, parameters: SiteTable) -> Inspection:
    """Returns an inspection whose results are gradients; what is asked for of inputs and parameters comes first.

    Raises:
        NotFoundError: a name is no parameter.
        InvalidRequestError: there is no such output or input, a glob matches nothing, or the indices do not fit.
        NotCapturableError: an input or parameter is not of floats.
        LimitExceededError: there are more results than can be resolved in a moment.
    """
    rows, plan = inspection.rows, inspection.plan
    spec = _output(gradient, signature)
    indices = _indices(gradient, spec, rows)
    none = np.full((plan.bucket - rows, *indices.shape[1:]), -1, indices.dtype)
    check_globs((*gradient.inputs, *gradient.parameters), field=FIELD)
    reductions = list({(each, each.numbers): each for each in gradient.reductions}.values())
    captured: list[CapturedValue] = []
    results: list[ResultSpec] = []
    for origin, site in (*_inputs(gradient, signature), *_parameters(gradient, parameters)):
        value = ValueSpec(site=site.path, dtype=site.dtype, shape=site.shape)
        for place, reduction in enumerate(reductions):
            reduction.check(value, field=f"{FIELD}.reductions[{place}]")
            captured.append(CapturedValue(site=site.value, cuts=(), reduction=reduction, origin=origin))
            results += results_of(site, value, reduction, rows)
            check_results(len(captured) + len(plan.captured), field=FIELD)
    return replace(
        inspection,
        plan=replace(
            plan,
            captured=(*captured, *plan.captured),
            gradient=PlannedGradient(output=spec.name, objective=gradient.objective),
            staged=False,
        ),
        starts=(*(() for _ in captured), *inspection.starts),
        numbers=(*(each.reduction.numbers for each in captured), *inspection.numbers),
        results=tuple(
            spec if spec.site is None else replace(spec, is_gradient=True) for spec in (*results, *inspection.results)
        ),
        arguments=(*inspection.arguments, np.concatenate([indices, none])),
    )


def _output(gradient: Gradient, signature: Signature) -> TensorSpec:
    for spec in signature.outputs:
        if spec.name == gradient.output:
            if not jnp.issubdtype(spec.dtype, jnp.floating):
                raise InvalidRequestError(
                    f"output {spec.name!r} is {spec.dtype}, and gradients are of floats", field=f"{FIELD}.output"
                )
            return spec
    raise InvalidRequestError(
        f"there is no output {quoted(gradient.output)}; the outputs are {', '.join(signature.output_names)}",
        field=f"{FIELD}.output",
        reason="OUTPUT_NOT_FOUND",
    )


def _indices(gradient: Gradient, spec: TensorSpec, rows: int) -> np.ndarray:
    """Returns an index for each place of an output but those of its last axis, int32; an output of one axis has one."""
    *places, count = spec.with_rows(rows) if len(spec.shape) > 1 else (rows, 1)
    given, field = gradient.indices, f"{FIELD}.{gradient.objective.value}"
    if not jnp.issubdtype(given.dtype, jnp.integer):
        raise InvalidRequestError(
            f"the indices are {given.dtype}; expected integers", field=field, reason="WRONG_DTYPE"
        )
    own = (
        (1,) * (len(places) - given.ndim) + given.shape if given.ndim != 1 else (*given.shape, *[1] * (len(places) - 1))
    )
    if len(own) != len(places) or any(size not in {1, most} for size, most in zip(own, places, strict=True)):
        raise InvalidRequestError(
            f"the indices have shape {given.shape}; expected one for all, one for each of the {rows} rows, or for "
            f"output {spec.name!r} shape {tuple(places)}",
            field=field,
            reason="WRONG_SHAPE",
        )
    if given.size and given.max() >= count:
        raise InvalidRequestError(
            f"an index is {given.max()}; the last axis of output {spec.name!r} has {count}, 0 to {count - 1}",
            field=field,
            reason="INDEX_OUT_OF_RANGE",
        )
    return np.broadcast_to(np.maximum(given.astype(np.int64).reshape(own), -1), places).astype(np.int32)


def _inputs(gradient: Gradient, signature: Signature) -> Iterator[tuple[Origin, Site]]:
    chosen = _chosen(gradient.inputs, signature)
    for order, spec in enumerate(signature.inputs):
        if spec.name in chosen:
            site = Site(
                path=f"inputs/{spec.name}",
                kind=SiteKind.INPUT,
                dtype=spec.dtype,
                shape=spec.shape,
                order=order,
                value=spec.name,
            )
            if refusal := refusal_of(site):
                raise NotCapturableError(
                    f"there is no gradient with respect to input {spec.name!r}: {refusal}",
                    field=f"{FIELD}.inputs",
                    reason="NOT_DIFFERENTIABLE",
                )
            yield Origin.INPUT, site


def _chosen(globs: Sequence[str], signature: Signature) -> set[str]:
    chosen: set[str] = set()
    for place, glob in enumerate(globs):
        found = {name for name in signature.input_names if compile_glob(glob)(name)}
        if not found:
            raise InvalidRequestError(
                f"there is no input {quoted(glob)}; nearest: {nearest(glob, signature.input_names)}",
                field=f"{FIELD}.inputs[{place}]",
                reason="INPUT_NOT_FOUND",
            )
        chosen |= found
    return chosen


def _parameters(gradient: Gradient, parameters: SiteTable) -> Iterator[tuple[Origin, Site]]:
    if not gradient.parameters:
        return
    for site in parameters.select(gradient.parameters, (), field=FIELD, part="parameters", refuse=refusal_of):
        yield Origin.PARAMETER, site
