"""The table of a network's sites, and the selection of some by globs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fluoroscope_server.engine.glob import check_globs, compile_glob, is_glob
from fluoroscope_server.engine.site import ALL, SiteKind
from fluoroscope_server.errors import (
    InvalidRequestError,
    LimitExceededError,
    NotCapturableError,
    NotFoundError,
    nearest,
    quoted,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Sequence

    from fluoroscope_server.engine.site import Site

MOST_MATCHES = 2_500_000
"""How often paths may be held against globs for one request, as 5,000 are against 500: a million take 0.3 s."""


class SiteTable:
    """All sites of a network, in execution order.

    What modules take is mostly the result of an equation, which has a site of its own: so these sites are no part of
    the whole, but have to be asked for, by kind or by a name or glob with `input` in it.
    """

    def __init__(self, sites: Sequence[Site]) -> None:
        """Takes the sites, their paths all different."""
        self._every = tuple(sites)
        self._sites = tuple(site for site in sites if site.kind is not SiteKind.INPUT)
        self._by_path = {site.path: site for site in self._every}
        self._single: dict[str, int] = {}
        for site in self._every:
            self._single[site.value] = max(self._single.get(site.value, 0), _single(site))

    def __len__(self) -> int:
        return len(self._sites)

    def __iter__(self) -> Iterator[Site]:
        return iter(self._sites)

    def __getitem__(self, path: str) -> Site:
        return self._by_path[path]

    def get(self, path: str) -> Site | None:
        """Returns the site of a path; None if there is none."""
        return self._by_path.get(path)

    def matching(self, globs: Collection[str], kinds: Collection[SiteKind]) -> list[Site]:
        """Returns the sites that any glob matches and that are of any of the kinds; empty means all.

        Raises:
            LimitExceededError: there are more globs than can be matched in a moment.
        """
        check_globs(globs, field="globs")
        names = set(globs)
        patterns = [compile_glob(glob) for glob in names if is_glob(glob)]
        return [
            site
            for site in self._asked(names, kinds)
            if (not kinds or site.kind in kinds)
            and (not names or site.path in names or any(pattern(site.path) for pattern in patterns))
        ]

    def check(self, selections: Iterable[Collection[str]], *, field: str) -> None:
        """Raises LimitExceededError if it would take long to select by each of these names and globs in turn."""
        globs = [glob for names in selections for glob in set(names) if is_glob(glob)]
        check_globs(globs, field=field)
        if len(globs) * len(self._every) > MOST_MATCHES:
            raise LimitExceededError(
                f"{len(globs):,} globs, those that come again counted again, on the {len(self._every):,} sites of this "
                f"model are more than {MOST_MATCHES:,} comparisons, which is the limit: use fewer, or name sites "
                "without wildcards",
                field=field,
                reason="TOO_MANY_GLOBS",
            )

    def select(
        self,
        globs: Sequence[str],
        kinds: Collection[SiteKind],
        *,
        field: str,
        part: str = "sites",
        refuse: Callable[[Site], str] | None = None,
    ) -> list[Site]:
        """Returns the capturable sites that a capture means, in execution order.

        Args:
            globs: names and globs of sites. What a loop computes, stacked, is chosen by its name only: a glob
                chooses the iterations.
            kinds: the kinds to keep; empty means all.
            field: the request field to blame.
            part: the field in it that holds the globs.
            refuse: says why a site has no gradient; empty if it has one, and nobody asks unless it is given.

        Raises:
            NotFoundError: a name without wildcards is no site.
            InvalidRequestError: a glob matches nothing, or there is none.
            NotCapturableError: a site asked for by name cannot be captured, nor can any that a glob matches.
        """
        if not globs:
            raise InvalidRequestError(
                f"{field}.{part} is empty; name a site, or use the glob '**' for all", field=field
            )
        chosen: dict[str, Site] = {}
        seen: set[str] = set()
        for index, glob in enumerate(globs):
            if glob in seen:
                continue
            seen.add(glob)
            place = f"{field}.{part}[{index}]"
            named = self._by_path.get(glob)
            found = self._expand(glob, kinds, place) if named is None else [_checked(named, kinds, place)]
            found = found if refuse is None else _differentiable(found, refuse, place)
            chosen.update((site.path, site) for site in found)
        return sorted(chosen.values(), key=lambda site: site.order)

    def _asked(self, globs: Iterable[str], kinds: Collection[SiteKind]) -> tuple[Site, ...]:
        """Returns the sites among which globs choose."""
        if SiteKind.INPUT in kinds or any("input" in glob.split("/") for glob in globs):
            return self._every
        return self._sites

    def _repeats(self, site: Site) -> bool:
        """Returns whether a site is the values of a loop's iterations, stacked, which have sites of their own too."""
        return _single(site) < self._single[site.value]

    def _expand(self, glob: str, kinds: Collection[SiteKind], field: str) -> list[Site]:
        if not is_glob(glob):
            raise NotFoundError(
                f"there is no site {quoted(glob)}; nearest: {nearest(glob, self._by_path)}",
                field=field,
                reason="SITE_NOT_FOUND",
            )
        matches = compile_glob(glob)
        every = [site for site in self._asked([glob], kinds) if matches(site.path) and not self._repeats(site)]
        found = [site for site in every if not kinds or site.kind in kinds]
        if not found:
            asked = f", and {len(every)} of other kinds than asked for" if every else ""
            raise InvalidRequestError(
                f"the glob {quoted(glob)} matches none of the {len(self)} sites{asked}; "
                f"nearest: {nearest(glob, self._by_path)}",
                field=field,
                reason="GLOB_MATCHES_NOTHING",
            )
        capturable = [site for site in found if not site.reason]
        if not capturable:
            raise _not_capturable(found[0], field)
        return capturable


def _differentiable(sites: Sequence[Site], refuse: Callable[[Site], str], field: str) -> list[Site]:
    """Returns the sites that have a gradient; raises NotCapturableError if none has."""
    found = [site for site in sites if not refuse(site)]
    if not found:
        raise NotCapturableError(
            f"there is no gradient with respect to site {sites[0].path!r}: {refuse(sites[0])}",
            field=field,
            reason="NOT_DIFFERENTIABLE",
        )
    return found


def _single(site: Site) -> int:
    """Returns of how many loops a site is a single iteration."""
    return sum(each != ALL for each in site.iterations)


def _checked(site: Site, kinds: Collection[SiteKind], field: str) -> Site:
    if kinds and site.kind not in kinds:
        asked = " or ".join(sorted(kind.name for kind in kinds))
        raise InvalidRequestError(
            f"site {site.path!r} is of kind {site.kind.name}, and kinds asks for {asked}", field=field
        )
    if site.reason:
        raise _not_capturable(site, field)
    return site


def _not_capturable(site: Site, field: str) -> NotCapturableError:
    return NotCapturableError(f"site {site.path!r} cannot be captured: {site.reason}", field=field)
