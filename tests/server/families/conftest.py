"""Names of sites of a network, in one line."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from fluoroscope_server.engine.traced import trace

if TYPE_CHECKING:
    from collections.abc import Callable

    from fluoroscope_server.engine import SiteKind
    from fluoroscope_server.families import Network


@pytest.fixture(scope="session")
def site_paths() -> Callable[..., list[str]]:
    """Returns the paths of the sites of a network, of one kind if asked."""

    def paths(network: Network, kind: SiteKind | None = None) -> list[str]:
        return [site.path for site in trace(network, (1, 4)).sites if kind in {None, site.kind}]

    return paths
