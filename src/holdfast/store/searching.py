"""What a search does before and after the backend looks: the query, the index, the hits."""

from __future__ import annotations

from holdfast.errors import HoldfastError, OutcomeUnknown, Unavailable
from holdfast.model.search import Indexed, Search, SearchHit
from holdfast.model.write import Write, WriteKind
from holdfast.rules.arguments import check_limit, check_optional_id
from holdfast.store.backend import Backend
from holdfast.store.sources import Sources

_GO_ON_WITHOUT = frozenset(("read_only", "disk_full"))
"""With these the index stays as it is, and what it lacks is looked at message by message."""


class Searching:
    """Searches one tenant's sessions."""

    def __init__(self, backend: Backend, tenant: str, sources: Sources, timeout_s: float) -> None:
        self._backend = backend
        self._tenant = tenant
        self._sources = sources
        self._timeout_s = timeout_s

    def wanted(self, query: object, user_id: object, limit: object) -> Search:
        """Return what is looked for."""
        from holdfast.rules.search import parse_query  # many programs never search

        return Search(
            tenant=self._tenant,
            query=parse_query(query),
            user_id=check_optional_id(user_id, "user_id"),
            limit=check_limit(limit, "limit"),
        )

    def catch_up(self) -> CatchUp:
        """Return what has to be indexed before a search."""
        return CatchUp(
            self._tenant, self._backend.lacking(self._tenant), self._sources, self._timeout_s
        )

    def hits(self, wanted: Search) -> list[SearchHit]:
        """Return the hits, the best first."""
        from holdfast.rules.snippets import hit

        if not wanted.limit:
            return []
        return [hit(found, wanted.query) for found in self._backend.search(wanted)]


class CatchUp:
    """Filling the index, slice by slice: as much as was lacking when it began, and no more.

    Others may write faster than this can follow. What they write meanwhile is not waited for: the
    search looks at it message by message.
    """

    def __init__(self, tenant: str, lacking: int, sources: Sources, timeout_s: float) -> None:
        self.write = Write(tenant=tenant, session_id="", kind=WriteKind.INDEX)
        self._lacking = lacking
        self._now_s = sources.monotonic_s
        self._deadline = self._now_s() + timeout_s

    @property
    def due(self) -> bool:
        """Whether there is a slice to be indexed."""
        return self._lacking > 0

    def remaining_s(self) -> float:
        """Return how long the next slice may wait; `Unavailable` if the time is over."""
        left = self._deadline - self._now_s()
        if left <= 0:
            raise Unavailable(
                f"the search index still lacks about {self._lacking:,} entries",
                code="deadline",
                hint="search again: it goes on where it stopped",
            )
        return left

    def done(self, slice_: Indexed) -> None:
        """Count a slice."""
        self._lacking = 0 if slice_.complete else self._lacking - max(slice_.entries, 1)

    def failed(self, error: HoldfastError) -> None:
        """Do without the index if it cannot be written, else raise."""
        if error.code in _GO_ON_WITHOUT:
            self._lacking = 0
        elif isinstance(error, OutcomeUnknown):
            raise Unavailable(
                f"the search index could not be brought up to date: {error.message}",
                hint="search again; no message is concerned",
            ) from error
        else:
            raise error
