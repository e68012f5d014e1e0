"""The calls of a recorded run, and what each must make of the histories, in plain lists."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping

from holdfast.errors import Conflict
from holdfast.rules.history import History
from holdfast.testing.powerloss.live import LiveStore

SESSIONS = ("ada", "bob", "carol")


class Steps:
    """Makes calls on a store and remembers what they should come to.

    Each session has a mark that stands in every text of it and nowhere else. When a session was
    deleted and its bytes erased, its mark must not be found any more.
    """

    def __init__(
        self, live: LiveStore, chance: random.Random, said: Mapping[str, list[str]]
    ) -> None:
        self._live = live
        self._chance = chance
        self._said = {name: list(texts) for name, texts in said.items()}
        # A text begins with its session's mark; of one that says nothing any more it is lost.
        self._marks = {name: texts[0].split()[0] for name, texts in said.items() if texts}
        self._erased: list[bytes] = []
        self._number = chance.randrange(10**6)  # an earlier life of this store counted too
        self._weighted: dict[Callable[[], None], int] = {
            self.add: 10,
            self.add_keyed: 6,
            self.add_several: 4,
            self.add_long: 2,
            self.save: 5,
            self.rewrite: 3,
            self.replace: 2,
            self.clear: 1,
            self.create: 2,
            self.rename: 2,
            self.delete: 1,
            self.batch: 4,
            self.repeat: 2,
            self.reopen: 1,
        }

    def choose(self) -> Callable[[], None]:
        """Return the next call to make."""
        (step,) = self._chance.choices(list(self._weighted), list(self._weighted.values()))
        return step

    def wanted(self) -> dict[str, list[str]]:
        """Return what each history must be."""
        return self._said

    def take_erased(self) -> list[bytes]:
        """Return the marks of the sessions that were erased since the last time."""
        erased, self._erased = self._erased, []
        return erased

    # Calls

    def add(self) -> None:
        """Add a message."""
        name = self._any()
        text = self._text(name)
        self._live.store.add_user_message(name, text)
        self._said[name].append(text)

    def add_keyed(self) -> None:
        """Add a message under a key."""
        name = self._any()
        text = self._text(name)
        self._live.store.add_message(name, "assistant", text, key=self._key(name))
        self._said[name].append(text)

    def add_several(self) -> None:
        """Add messages together."""
        name = self._any()
        texts = [self._text(name) for _ in range(self._chance.randint(2, 5))]
        self._live.store.add_messages(name, [_user(text) for text in texts])
        self._said[name] += texts

    def add_long(self) -> None:
        """Add a message of several pages."""
        name = self._any()
        text = self._text(name, self._chance.randint(4_000, 12_000))
        self._live.store.add_user_message(name, text)
        self._said[name].append(text)

    def save(self) -> None:
        """Load a history, add to it, and save it; half of the time under a key."""
        name = self._any()
        text = self._text(name)
        key = self._key(name) if self._chance.random() < 0.5 else None
        history = self._live.store.get_chat_history(name)
        history.append(_user(text))
        self._live.store.set_chat_history(name, history, key=key)
        self._said[name].append(text)

    def rewrite(self) -> None:
        """Change one message and leave the last ones out."""
        name = self._any()
        text = self._text(name)

        def edit(history: History) -> History:
            return History([*history[: len(history) // 2], _user(text)], history.origin)

        self._live.store.edit_history(name, edit)
        kept = self._said[name]
        self._said[name] = [*kept[: len(kept) // 2], text]

    def replace(self) -> None:
        """Save a list without a base, long enough for several entries."""
        name = self._any()
        texts = [self._text(name, 10) for _ in range(self._chance.choice((1, 3, 70)))]
        key = self._key(name) if self._chance.random() < 0.5 else None
        self._live.store.set_chat_history(name, [_user(text) for text in texts], key=key)
        self._said[name] = texts

    def clear(self) -> None:
        """Clear a history."""
        name = self._there()
        self._live.store.clear_session(name)
        if name in self._said:
            self._said[name] = []

    def create(self) -> None:
        """Create a session that is not there, if there is one."""
        gone = [name for name in SESSIONS if name not in self._said]
        if gone:
            name = self._known(self._chance.choice(gone))
            title = self._text(name, 10)
            self._live.store.create_session(name, title=title, metadata={"note": title})

    def rename(self) -> None:
        """Change a session's title or its metadata."""
        name = self._there()
        if name in self._said:
            text = self._text(name, 20)
            if self._chance.random() < 0.5:
                self._live.store.rename_session(name, text)
            else:
                self._live.store.update_session_metadata(name, note=text)

    def delete(self) -> None:
        """Delete a session."""
        name = self._there()
        deletion = self._live.store.delete_session(name)
        assert deletion.existed == (name in self._said)
        self._said.pop(name, None)
        mark = self._marks.pop(name, None)
        if mark is not None and deletion.erasure == "done":
            self._erased.append(mark.encode())

    def batch(self) -> None:
        """Commit writes of several sessions together, one of which is refused."""
        writes = []
        texts: list[tuple[str, str]] = []
        for _ in range(self._chance.randint(2, 6)):
            name = self._any()
            text = self._text(name)
            key = self._key(name) if self._chance.random() < 0.3 else None
            writes.append(self._live.addition(name, text, key=key))
            texts.append((name, text))
        refused = self._live.addition(texts[0][0], "refused", expected_revision=0)
        outcomes = self._live.commit([*writes, refused])
        assert isinstance(outcomes[-1], Conflict)
        for name, text in texts:
            self._said[name].append(text)

    def repeat(self) -> None:
        """Send a message twice under one key."""
        name = self._any()
        text = self._text(name)
        key = self._key(name)
        for _ in range(2):
            self._live.store.add_user_message(name, text, key=key)
        self._said[name].append(text)

    def reopen(self) -> None:
        """Close the store and open it again."""
        self._live.close()
        self._live.open()

    # What they say

    def _any(self) -> str:
        """Return a session, there or not: whoever writes to it creates it."""
        return self._known(self._chance.choice(SESSIONS))

    def _there(self) -> str:
        return self._chance.choice(sorted(self._said) or SESSIONS)

    def _known(self, name: str) -> str:
        self._said.setdefault(name, [])
        return name

    def _text(self, name: str, length: int | None = None) -> str:
        mark = self._mark(name)
        self._number += 1
        filler = self._chance.randbytes((length or self._chance.randint(10, 300)) // 2).hex()
        return f"{mark} {self._number} {filler}"

    def _key(self, name: str) -> str:
        self._number += 1
        return f"{self._mark(name)} key {self._number}"

    def _mark(self, name: str) -> str:
        if name not in self._marks:
            self._marks[name] = f"{name}-{self._chance.getrandbits(48):012x}"
        return self._marks[name]


def _user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}
