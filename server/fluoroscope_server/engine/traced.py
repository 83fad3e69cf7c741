"""A traced network: its flat jaxpr for each bucket, and the sites that all of them have."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

import jax

from fluoroscope_server.engine.flat import flatten
from fluoroscope_server.engine.flops import Flops
from fluoroscope_server.engine.listing import list_sites
from fluoroscope_server.engine.mixing import find_mixed
from fluoroscope_server.engine.parameters import list_parameters
from fluoroscope_server.engine.site_table import SiteTable
from fluoroscope_server.errors import ConfigError
from fluoroscope_server.families import abstract_inputs

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from fluoroscope_server.engine.flat import FlatNetwork
    from fluoroscope_server.engine.jaxprs import Closed
    from fluoroscope_server.engine.mixing import Mixed
    from fluoroscope_server.engine.naming import NamedValue
    from fluoroscope_server.families import Network
    from fluoroscope_server.signature import Signature

TRACING = threading.Lock()
"""Held while a network is traced: its code is the operator's, and need not be safe under threads."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TracedNetwork:
    """A network as data: what it computes for each batch size, and the names of all values."""

    signature: Signature
    """Its inputs and outputs."""

    flat: Mapping[int, FlatNetwork]
    """The flat jaxpr for each bucket, and for each other batch size that was traced to compare them. Its inputs are the
    leaves of the variables, then the inputs."""

    values: Mapping[int, Mapping[str, NamedValue]]
    """For each bucket, the named values by path; sites name theirs."""

    sites: SiteTable
    """The sites, in execution order."""

    parameters: SiteTable
    """Its variables, in the order of the leaves."""

    flops: Mapping[int, float]
    """For each bucket, the floating point operations of the whole network."""

    closed: Mapping[int, Closed]
    """For each bucket, the network as it was traced."""

    root: str
    """The outermost scope, left out of names."""

    mixed: Mixed
    """Where the rows of a batch are mixed."""

    @property
    def leaf_count(self) -> int:
        """Returns how many leaves the variables have."""
        return len(next(iter(self.flat.values())).jaxpr.inputs) - len(self.signature.inputs)

    def differentiable(self, bucket: int, opened: Collection[str]) -> FlatNetwork:
        """Returns the flat jaxpr in a form that can be differentiated; see `flatten`."""
        return flatten(self.closed[bucket], root=self.root, whole=True, opened=opened)


def trace(network: Network, buckets: Sequence[int]) -> TracedNetwork:
    """Traces a network at each batch size. Runs nothing on the device.

    Raises:
        ConfigError: the network cannot be traced.
    """
    lacking = max(0, 2 - sum(size > 1 for size in buckets))  # a batch of one may be computed in another way
    sizes = [*buckets, *range(buckets[-1] + 1, buckets[-1] + 1 + lacking)]
    with TRACING:
        closed = {size: _trace_one(network, size) for size in sizes}
    flat = {size: flatten(each, root=network.root) for size, each in closed.items()}
    input_count = len(network.signature.inputs)
    return TracedNetwork(
        signature=network.signature,
        flat=flat,
        values={size: {value.path: value for value in flat[size].values} for size in buckets},
        sites=SiteTable(list_sites(flat, input_count)),
        parameters=list_parameters(network.variables),
        flops={size: Flops(flat[size]).total for size in buckets},
        closed={size: closed[size] for size in buckets},
        root=network.root,
        mixed=find_mixed(flat, input_count),
    )


def _trace_one(network: Network, rows: int) -> Closed:
    inputs = abstract_inputs(network.signature.inputs, rows)
    try:
        return jax.make_jaxpr(network.function)(network.variables, inputs)
    except Exception as error:  # the network is the operator's code: whatever it raises, they are told
        raise ConfigError(f"the network cannot be traced with a batch of {rows}: {error}") from error
