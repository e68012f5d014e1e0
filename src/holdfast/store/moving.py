"""Copying the sessions of one store into another, whatever kinds of store they are.

One commit of the target a session, so that an end at any moment leaves whole sessions, and a copy
mark in that commit, so that whoever comes later knows what is there: see `rules.moving`. The source
is only read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from msgspec import Struct

from holdfast.errors import Conflict, CorruptEntry, InvalidArgument, SessionNotFound
from holdfast.model.entry import EntryKind
from holdfast.model.moving import Moved, Phase, Progress, Trouble, TroubleKind
from holdfast.model.session import SessionRow
from holdfast.model.write import Creation, KeyRow, Restored, Write, WriteKind
from holdfast.rules.arguments import check_id
from holdfast.rules.moving import common, difference, extent, is_whole, mark_name, taken
from holdfast.rules.verification import SessionCheck
from holdfast.store.backend import Backend, LogRead
from holdfast.store.engine import Engine

_PAGE = 1_000
TIMEOUT_S = 30.0


class _Listed(Struct, frozen=True, order=True):
    """A session that is to be copied; by rank, so that the one that changed last comes last."""

    rank: int
    tenant: str
    id: str
    entries: int


class _Tally(Struct):
    copied: int = 0
    updated: int = 0
    unchanged: int = 0
    checked: int = 0
    messages: int = 0
    entries: int = 0
    size_bytes: int = 0


def _nobody(_: Progress) -> None:
    """Watch nothing."""


class Moving:
    """Brings sessions of `source` into `target`, or what their copies lack, then compares them.

    All tenants' sessions, or those of `tenants`. `watch` is told how far it has got. Nothing is
    done twice: whatever ended an earlier run, another one goes on from there. A session of the
    target that is no copy, or that somebody wrote to, is never touched.
    """

    def __init__(
        self,
        source: Backend,
        target: Engine,
        *,
        tenants: Sequence[str] | None = None,
        watch: Callable[[Progress], None] = _nobody,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        self._source = source
        self._target = target
        self._there = target.backend
        if source.identity == self._there.identity:
            raise InvalidArgument(
                f"{source.location} and {self._there.location} are the same store",
                code="same_store",
                hint="name another store to copy to; "
                "a file that was copied is still the same store",
            )
        self._tenants: list[str] | None = None
        if tenants is not None:
            self._tenants = [check_id(tenant, "tenant") for tenant in tenants]
        self._watch = watch
        self._timeout_s = timeout_s
        self._tally = _Tally()
        self._troubles: list[Trouble] = []
        self._left_alone: set[tuple[str, str]] = set()
        self._last_ranks: dict[str, int] = {}

    def run(self) -> Moved:
        """Copy, then check, and return what came of it.

        Each session is durable in the target once `watch` was told of it. Raises what makes either
        store unusable; what is wrong with one session is among the troubles.
        """
        started = self._target.monotonic_s()
        self._each(Phase.COPYING, self._bring)
        self._each(Phase.CHECKING, self._check)
        for tenant in self._chosen():
            self._look_for_deleted(tenant)
        for what in self._there.check():
            self._trouble(TroubleKind.CORRUPT, "", "", what)
        tally = self._tally
        return Moved(
            tally.copied,
            tally.updated,
            tally.unchanged,
            tally.checked,
            tally.messages,
            tally.entries,
            tally.size_bytes,
            self._target.monotonic_s() - started,
            tuple(self._troubles),
        )

    def _each(self, phase: Phase, do: Callable[[str, str], None]) -> None:
        """Do something to every session of the source, those that changed longest ago first."""
        listed = [one for tenant in self._chosen() for one in self._listed(tenant)]
        total = sum(one.entries for one in listed)
        entries = 0
        self._watch(Progress(phase, 0, len(listed), 0, total))
        for number, one in enumerate(listed, 1):
            do(one.tenant, one.id)
            entries += one.entries
            self._watch(Progress(phase, number, len(listed), entries, total))

    def _chosen(self) -> Sequence[str]:
        if self._tenants is not None:
            return self._tenants
        return sorted({*self._source.tenants(), *self._there.tenants()})

    def _listed(self, tenant: str) -> list[_Listed]:
        """Return a tenant's sessions in the order of change, none missing for having changed."""
        return sorted(
            _Listed(row.rank, tenant, row.id, extent(row) + 1)
            for row in _rows(self._source, tenant)
        )

    # Copying

    def _bring(self, tenant: str, session_id: str) -> None:
        """Copy a session, or bring its copy up to date."""
        try:
            try:
                self._bring_once(tenant, session_id)
            except (Conflict, SessionNotFound):  # somebody else may be copying it just now
                self._bring_once(tenant, session_id)
        except (Conflict, SessionNotFound) as conflict:
            self._trouble(TroubleKind.CONFLICT, tenant, session_id, conflict.message)
        except CorruptEntry as error:
            self._trouble(TroubleKind.CORRUPT, tenant, session_id, f"in the source {error.message}")

    def _bring_once(self, tenant: str, session_id: str) -> None:
        row = self._source.read_session(tenant, session_id)
        if row is None:
            return  # deleted since it was listed
        copy = self._there.read_session(tenant, session_id)
        after = None if copy is None else self._common(row, copy)
        if copy is not None and is_whole(row, copy):
            self._tally.unchanged += 1
            return
        read = self._source.read_log(tenant, session_id)
        if read is None or read.session.pk != row.pk:
            return  # deleted meanwhile; checking tells if another one has its id now
        check = SessionCheck(read.session)
        check.walk(read.rows)
        check.require_sound()
        keys = self._source.read_keys(tenant, session_id)  # none of the log's is missing
        restored = taken(self._source.identity, read.session, read.rows, keys, after)
        self._write(copy, tenant, session_id, restored)
        self._count(restored, new=copy is None)

    def _common(self, row: SessionRow, copy: SessionRow) -> int:
        mark = _mark(self._there, copy, self._source.identity)
        returned = _mark(self._source, row, self._there.identity)
        return common(row, copy, mark, returned)

    def _write(
        self, copy: SessionRow | None, tenant: str, session_id: str, restored: Restored
    ) -> None:
        write = Write(
            tenant=tenant,
            session_id=session_id,
            kind=WriteKind.COPY,
            creation=Creation.REQUIRED if copy is None else Creation.FORBIDDEN,
            base_revision=None if copy is None else copy.revision,
            restored=restored,
        )
        self._target.commit(write, self._timeout_s)

    def _count(self, restored: Restored, *, new: bool) -> None:
        tally = self._tally
        tally.copied += new
        tally.updated += not new
        tally.entries += len(restored.rows)
        for row in restored.rows:
            tally.size_bytes += len(row.payload)
            if row.kind == EntryKind.MESSAGE:
                tally.messages += row.message_count

    # Checking

    def _check(self, tenant: str, session_id: str) -> None:
        """Compare a session with its copy, entry by entry, and put the copy in its place."""
        if (tenant, session_id) in self._left_alone:
            return
        ours = self._source.read_log(tenant, session_id)
        theirs = self._there.read_log(tenant, session_id)
        if ours is None:
            return  # deleted since it was listed
        if theirs is None:
            what = "it is not in the target yet: run it again"
            self._trouble(TroubleKind.BEHIND, tenant, session_id, what)
            return
        try:
            after = self._common(ours.session, theirs.session)
        except Conflict as conflict:
            self._trouble(TroubleKind.CONFLICT, tenant, session_id, conflict.message)
            return
        self._tally.checked += 1
        wrong = _wrong(ours, theirs)
        if wrong is not None:
            self._trouble(wrong[0], tenant, session_id, wrong[1])
        else:
            self._put_in_place(theirs.session, after)

    def _put_in_place(self, copy: SessionRow, after: int) -> None:
        """Make a copy the one that changed last, if the one before it in the source comes later."""
        rank = copy.rank
        if rank <= self._last_ranks.get(copy.tenant, 0):
            nothing = Restored(copy.created, after, copy.floor - copy.start, (), {}, after)
            try:
                self._write(copy, copy.tenant, copy.id, nothing)
            except (Conflict, SessionNotFound) as conflict:
                self._trouble(TroubleKind.CONFLICT, copy.tenant, copy.id, conflict.message)
                return
            moved = self._there.read_session(copy.tenant, copy.id)
            rank = copy.rank if moved is None else moved.rank
        self._last_ranks[copy.tenant] = rank

    def _look_for_deleted(self, tenant: str) -> None:
        """Find copies of sessions that are not in the source any more."""
        there = {row.id for row in _rows(self._source, tenant)}
        for copy in _rows(self._there, tenant):
            if copy.id in there:
                continue
            mark = _mark(self._there, copy, self._source.identity)
            if mark is not None and self._source.read_session(tenant, copy.id) is None:
                what = (
                    "it was deleted in the source since it was copied, and is still in the target"
                )
                self._trouble(TroubleKind.DELETED, tenant, copy.id, what)

    def _trouble(self, kind: TroubleKind, tenant: str, session_id: str, what: str) -> None:
        self._troubles.append(Trouble(kind, tenant, session_id, what))
        self._left_alone.add((tenant, session_id))


def _wrong(ours: LogRead, theirs: LogRead) -> tuple[TroubleKind, str] | None:
    """Return what is wrong with a copy: somebody's damage, another log, or a shorter one."""
    for where, read in (("source", ours), ("target", theirs)):
        check = SessionCheck(read.session)
        check.walk(read.rows)
        for problem in check.finish():
            at = "" if problem.revision is None else f"entry {problem.revision}: "
            return TroubleKind.CORRUPT, f"in the {where} it is damaged: {at}{problem.what}"
    found = difference(ours.session, ours.rows, theirs.session, theirs.rows)
    if found is not None:
        return TroubleKind.DIFFERENT, found
    if not is_whole(ours.session, theirs.session):
        return TroubleKind.BEHIND, "it changed in the source meanwhile: run it again"
    return None


def _mark(holder: Backend, session: SessionRow, identity: str) -> KeyRow | None:
    """Return what a session of one store knows of being a copy from the store `identity`."""
    name = mark_name(identity)
    return holder.read_keys(session.tenant, session.id, name).get(name)


def _rows(backend: Backend, tenant: str) -> Iterator[SessionRow]:
    """Walk over a tenant's sessions by key."""
    pk = 0
    while page := backend.sessions_after(tenant, pk, _PAGE):
        yield from page
        pk = page[-1].pk
