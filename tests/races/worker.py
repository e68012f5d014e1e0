"""One racing process: connects, says `ready`, and does its role when it is told to go.

Its words are ROLE URL FOLDER NAME COUNT (see `tests.forking`). The parent speaks on standard input
and is answered on standard output, a line each; a stop file in the folder ends the roles that
loop.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from unittest.mock import patch

import holdfast
from holdfast.errors import Conflict
from holdfast.model.message import Message
from holdfast.model.search import Search, SearchHit
from holdfast.rules.search import Scan
from holdfast.store.postgres import searching as postgres_searching
from holdfast.store.searching import Searching
from holdfast.store.sqlite import searching as sqlite_searching
from tests.stores import slow_sources

SESSION = "race"
DELAY_S = 0.005
SLOW_S = DELAY_S / 5
"""How long a commit takes longer than it has to, inside its transaction."""

STOP = "stop"
STATES = "states"


def user(text: str) -> Message:
    """Return a user's message."""
    return {"role": "user", "content": text}


class Worker:
    """The process's name, its store and its part of the talk with the parent."""

    def __init__(self, url: str, folder: Path, name: str, count: int) -> None:
        self.name = name
        self.count = count
        self.folder = folder
        self.store = holdfast.connect(url, sources=slow_sources(url, SLOW_S))

    def say(self, *words: object) -> None:
        """Send a line to the parent."""
        print(*words, flush=True)  # noqa: T201 - how the parent is answered

    def orders(self) -> Iterator[str]:
        """Yield the parent's lines until it has no more."""
        for line in sys.stdin:
            yield line.strip()

    @property
    def stopped(self) -> bool:
        """Whether the parent wants the loops to end."""
        return (self.folder / STOP).exists()

    def pair(self, number: int) -> list[Message]:
        """Return the two messages of a round."""
        return [user(f"{self.name}:{2 * number + half}") for half in (0, 1)]


def save_itself(worker: Worker) -> None:
    """Load, wait, add two, save the same History."""
    for number in range(worker.count):
        history = worker.store.get_chat_history(SESSION)
        time.sleep(DELAY_S)
        history.extend(worker.pair(number))
        worker.store.set_chat_history(SESSION, history)


def save_slice(worker: Worker) -> None:
    """The same with a slice and `+`."""
    for number in range(worker.count):
        history = worker.store.get_chat_history(SESSION)
        time.sleep(DELAY_S)
        worker.store.set_chat_history(SESSION, history[:] + worker.pair(number))


def save_copy(worker: Worker) -> None:
    """The same with a copy."""
    for number in range(worker.count):
        history = worker.store.get_chat_history(SESSION).copy()
        time.sleep(DELAY_S)
        history.extend(worker.pair(number))
        worker.store.set_chat_history(SESSION, history)


def save_twice(worker: Worker) -> None:
    """The same, and every History is saved again, with and without more messages."""
    history = worker.store.get_chat_history(SESSION)
    for number in range(worker.count):
        time.sleep(DELAY_S)
        history.extend(worker.pair(number))
        worker.store.set_chat_history(SESSION, history)
        worker.store.set_chat_history(SESSION, history)


def save_plain(worker: Worker) -> None:
    """The habit of other stores: load, wait, save a plain list. It loses messages."""
    for number in range(worker.count):
        messages = list(worker.store.get_chat_history(SESSION))
        time.sleep(DELAY_S)
        worker.store.set_chat_history(SESSION, messages + worker.pair(number))


def add(worker: Worker) -> None:
    """Add messages one by one."""
    for number in range(worker.count):
        worker.store.add_message(SESSION, "user", f"{worker.name}:{number}")


def add_again(worker: Worker) -> None:
    """Repeat every tenth message without a key: it stands twice."""
    for number in range(worker.count):
        for _ in range(2 if number % 10 == 0 else 1):
            worker.store.add_message(SESSION, "user", f"{worker.name}:{number}")


def edit(worker: Worker) -> None:
    """Rewrite the first message in a loop, with `edit_history`."""
    count = 0
    while not worker.stopped:
        count += 1

        def rewritten(history: holdfast.History, count: int = count) -> list[Message]:
            time.sleep(DELAY_S)
            return [{"role": "system", "content": f"rewritten {count}"}, *history[1:]]

        worker.store.edit_history(SESSION, rewritten)
    worker.say("rewrites", count)


def rewrite(worker: Worker) -> None:
    """Rewrite the first message in a loop, with `set_chat_history`; a conflict is no harm."""
    count = conflicts = 0
    while not worker.stopped:
        history = worker.store.get_chat_history(SESSION)
        time.sleep(DELAY_S)
        history[0] = {"role": "system", "content": f"{worker.name} {count}"}
        try:
            worker.store.set_chat_history(SESSION, history)
            count += 1
        except Conflict:
            conflicts += 1
    worker.say("rewrites", count, conflicts)


def compact(worker: Worker) -> None:
    """Put another summary in front of everything that was said, in a loop."""
    count = conflicts = 0
    while not worker.stopped:
        history = worker.store.get_chat_history(SESSION)
        time.sleep(DELAY_S)
        said = sum(message["role"] == "user" for message in history)
        try:
            worker.store.compact_session(SESSION, f"sum {count}", keep_last=said, base=history)
            count += 1
        except Conflict:
            conflicts += 1
    worker.say("compactions", count, conflicts)


def rewind(worker: Worker) -> None:
    """Take the last message out of the history, again and again."""
    removed = 0
    for _ in range(worker.count):
        removed += worker.store.rewind_session(SESSION, -1).removed
    worker.say("removed", removed)


def rewind_plainly(worker: Worker) -> None:
    """The habit of other stores: load, wait, save without the last. It takes more with it."""
    for _ in range(worker.count):
        messages = worker.store.get_messages(SESSION)
        time.sleep(DELAY_S)
        worker.store.set_chat_history(SESSION, messages[:-1])
    worker.say("removed", worker.count)


def purge(worker: Worker) -> None:
    """Purge everything but what is current, in a loop."""
    generations = 0
    while not worker.stopped:
        generations += worker.store.purge().generations
    worker.say("generations", generations)


def add_at_leisure(worker: Worker) -> None:
    """Add messages one by one, with a pause after each."""
    for number in range(worker.count):
        worker.store.add_message(SESSION, "user", f"{worker.name}:{number}")
        time.sleep(4 * DELAY_S)


def save_on_order(worker: Worker) -> None:
    """Load, change and save each when the parent says so; tell how each save ended."""
    history = holdfast.History()
    for order in worker.orders():
        match order.split():
            case ["load"]:
                history = worker.store.get_chat_history(SESSION)
                worker.say("loaded")
            case ["append", text]:
                history.append(user(text))
                worker.say(_saved(worker, history))
            case ["rewrite", text]:
                history[0] = user(text)
                worker.say(_saved(worker, history))
            case ["plain", text]:
                worker.say(_saved(worker, [*history, user(text)]))


def _saved(worker: Worker, messages: list[Message]) -> str:
    try:
        worker.store.set_chat_history(SESSION, messages)
    except Conflict:
        return "conflict"
    return "saved"


def replace(worker: Worker) -> None:
    """Rewrite, replace and append in a loop; record every state before it is written."""

    def save(messages: list[Message]) -> None:
        base = worker.store.get_chat_history(SESSION).revision if len(messages) % 2 else None
        worker.store.set_chat_history(SESSION, messages, base_revision=base)

    _change_states(worker, save)


def clear_and_add(worker: Worker) -> None:
    """The habit of other stores: clear, then add. Readers see what was never a state."""

    def clear_then_add(messages: list[Message]) -> None:
        worker.store.clear_session(SESSION)
        worker.store.add_messages(SESSION, messages)

    _change_states(worker, clear_then_add)


def _change_states(worker: Worker, save: Callable[[list[Message]], object]) -> None:
    ledger = (worker.folder / STATES).open("a", encoding="utf-8")
    state = [message["content"] for message in worker.store.get_chat_history(SESSION)]
    with ledger:
        for number in range(worker.count):
            grown = [*state, f"added {number}"]
            changed = [f"state {number}", *state[1:150], *(f"{number}-{n}" for n in range(8))]
            state = grown if number % 3 else changed
            ledger.write(json.dumps(state) + "\n")
            ledger.flush()
            if number % 3:
                worker.store.add_user_message(SESSION, state[-1])
            else:
                save([user(text) for text in state])


def read(worker: Worker) -> None:
    """Read the history in a loop; write down each state that was not the last one seen."""
    seen: list[object] = []
    reads = 0
    with (worker.folder / f"seen-{worker.name}").open("w", encoding="utf-8") as ledger:
        while not worker.stopped:
            reads += 1
            state = [message["content"] for message in worker.store.get_chat_history(SESSION)]
            if state != seen:
                ledger.write(json.dumps(state) + "\n")
                seen = list(state)
    worker.say("reads", reads)


def late_hits(searching: Searching, wanted: Search) -> list[SearchHit]:
    """Look late: what others do between the filling of the index and the look into it, happens."""
    time.sleep(2 * DELAY_S)
    return _hits(searching, wanted)


_hits = Searching.hits


def add_and_search(worker: Worker) -> None:
    """Add a message and search for it at once; tell of each that is not found exactly once."""
    with patch.object(Searching, "hits", late_hits):
        for number in range(worker.count):
            text = f"{worker.name}:{number}"
            worker.store.add_message(SESSION, "user", text)
            hits = worker.store.search(text)
            if [hit.snippet for hit in hits] != [text]:
                worker.say("missed", number, len(hits))


def add_and_search_in_the_index(worker: Worker) -> None:
    """The same, but look only into the index: it lacks what others rewrite meanwhile."""
    with (
        patch.object(sqlite_searching, "_scan", lambda _, __, wanted: Scan(wanted.query)),
        patch.object(postgres_searching, "_look_at_the_rest"),
    ):
        add_and_search(worker)


def search(worker: Worker) -> None:
    """Search in a loop; tell of hits that stand twice, and of searches that find fewer."""
    most = searches = 0
    while not worker.stopped:
        hits = worker.store.search("add*", limit=100_000)
        places = {(hit.session_id, hit.revision, hit.index) for hit in hits}
        if len(places) < len(hits) or len(hits) < most:
            worker.say("strange", len(places), len(hits), most)
        most = len(hits)
        searches += 1
    worker.say("searches", searches)


def be_many(worker: Worker) -> None:
    """Write, read and follow on many threads at a time."""

    def work(number: int) -> None:
        while not worker.stopped:
            worker.store.add_message(f"{worker.name}-{number}", "user", "x")
            worker.store.get_chat_history(SESSION, 10)

    def follow() -> None:
        for _ in zip(range(worker.count), worker.store.follow(SESSION), strict=False):
            pass

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    threads.append(threading.Thread(target=follow))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def search_once(worker: Worker) -> None:
    """Search for everything."""
    worker.say("found", len(worker.store.search("said", limit=100_000)))


ROLES: dict[str, Callable[[Worker], None]] = {
    role.__name__: role
    for role in (
        save_itself,
        save_slice,
        save_copy,
        save_twice,
        save_plain,
        add,
        add_again,
        edit,
        rewrite,
        compact,
        rewind,
        rewind_plainly,
        purge,
        add_at_leisure,
        save_on_order,
        replace,
        clear_and_add,
        read,
        add_and_search,
        add_and_search_in_the_index,
        search,
        search_once,
        be_many,
    )
}


def main(words: Sequence[str]) -> None:
    """Connect, wait for the parent, do the role."""
    role, url, folder, name, count = words
    worker = Worker(url, Path(folder), name, int(count))
    worker.say("ready")
    sys.stdin.readline()
    ROLES[role](worker)
    worker.say("done")
    worker.store.close()
