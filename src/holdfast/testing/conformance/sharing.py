"""Many threads on one store: writes that share a commit stay strangers to each other."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import TypeVar

from holdfast.errors import Conflict, HoldfastError
from holdfast.model.commit import Commit
from holdfast.store.sync_store import SessionStore
from holdfast.testing.conformance.subject import Subject
from holdfast.testing.conformance.suite import Conformance, texts, user, users

T = TypeVar("T")

THREADS = 8
ROUNDS = 12
LONG_S = 20.0


class Sharing(Conformance):
    """Each write has its own outcome, whatever it was committed together with."""

    def test_adding(self, store: SessionStore) -> None:
        """Every thread's messages stand once and in its order; no two commits share a revision."""

        def add(thread: int) -> list[Commit]:
            return [store.add_messages("s", users(f"{thread}:{n}")) for n in range(ROUNDS)]

        commits = [commit for each in at_once(add) for commit in each]
        assert len({commit.revision for commit in commits}) == THREADS * ROUNDS
        found = texts(store.get_chat_history("s"))
        assert len(found) == THREADS * ROUNDS
        for thread in range(THREADS):
            own = [text for text in found if text.startswith(f"{thread}:")]
            assert own == [f"{thread}:{n}" for n in range(ROUNDS)]
        assert store.verify().problems == []

    def test_refusals(self, store: SessionStore) -> None:
        """A write that is refused writes nothing and spoils no other one's."""

        def add(thread: int) -> int:
            refused = 0
            for number in range(ROUNDS):
                try:
                    expected = 1 << 60 if thread % 2 else None
                    message = user(f"{thread}:{number}")
                    store.add_messages("s", [message], expected_revision=expected)
                except HoldfastError:
                    refused += 1
            return refused

        refused = at_once(add)
        assert refused == [ROUNDS if thread % 2 else 0 for thread in range(THREADS)]
        assert len(store.get_chat_history("s")) == THREADS // 2 * ROUNDS

    def test_news(self, store: SessionStore, subject: Subject) -> None:
        """Whoever waits for commits is told of each, by whichever process, and else of none."""
        subject.open_elsewhere().add_user_message("s", "before")
        for number in range(ROUNDS):
            subject.wait_for(lambda: not subject.news(0.0))
            writer = subject.open_elsewhere() if number % 2 else store
            writer.add_user_message("s", f"{number}")
            assert subject.news(LONG_S), number

    def test_one_key(self, store: SessionStore) -> None:
        """Of several writes with one key at once exactly one is done, and all say the same."""
        for number in range(ROUNDS):
            key = f"k{number}"

            def add(thread: int, key: str = key) -> Commit:
                return store.add_messages("s", [user(f"{key} of {thread}")], key=key)

            commits = at_once(add)
            assert sum(not commit.replayed for commit in commits) == 1
            assert len({commit.revision for commit in commits}) == 1
        assert len(store.get_chat_history("s")) == ROUNDS

    def test_one_expectation(self, store: SessionStore) -> None:
        """Of several writes that expect one revision exactly one is done."""
        for number in range(ROUNDS):
            revision = store.get_chat_history("s").revision

            def add(thread: int, number: int = number, revision: int = revision) -> bool:
                try:
                    message = user(f"{number} of {thread}")
                    store.add_messages("s", [message], expected_revision=revision)
                except Conflict:
                    return False
                return True

            assert sum(at_once(add)) == 1
        assert len(store.get_chat_history("s")) == ROUNDS

    def test_deleting(self, store: SessionStore) -> None:
        """A session that is deleted and begun again all the time is whole whenever it is there."""

        def act(thread: int) -> int:
            if thread % 4 == 0:
                return sum(bool(store.delete_session("s")) for _ in range(ROUNDS))
            for number in range(ROUNDS):
                store.add_messages("s", users(f"{thread}:{number}:a {thread}:{number}:b"))
            return 0

        deleted = at_once(act)
        assert sum(deleted) <= THREADS // 4 * ROUNDS
        found = texts(store.get_chat_history("s"))
        assert len(found) == len(set(found))
        assert [text[:-1] for text in found[::2]] == [text[:-1] for text in found[1::2]]
        assert store.verify().problems == []

    def test_creating(self, store: SessionStore) -> None:
        """Of several that create one session at once exactly one does."""

        def create(thread: int) -> bool:
            try:
                store.create_session("s", title=str(thread))
            except Conflict:
                return False
            return True

        assert sum(at_once(create)) == 1
        assert store.stats().sessions == 1


def at_once(act: Callable[[int], T]) -> list[T]:
    """Call `act` with each thread's number, all of them at the same time."""
    ready = Barrier(THREADS)

    def start(thread: int) -> T:
        ready.wait()
        return act(thread)

    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(start, range(THREADS)))
