"""Workers that start at once on a database in which there is no store yet."""

from __future__ import annotations

import threading

import holdfast

WORKERS = 8
ROUNDS = 4


def test_starting_at_once(schema: str) -> None:
    """Whoever comes first makes the schema; all of them find one store, and nobody is refused."""
    for number in range(ROUNDS):
        url = f"{schema}_{number}"
        begin = threading.Barrier(WORKERS)
        failures: list[BaseException] = []

        def start(
            name: str,
            url: str = url,
            begin: threading.Barrier = begin,
            failures: list[BaseException] = failures,
        ) -> None:
            try:
                begin.wait(20)
                with holdfast.connect(url) as store:
                    store.add_user_message("shared", name)
            except BaseException as error:  # noqa: BLE001 - shown below, on the test's own thread
                failures.append(error)

        threads = [threading.Thread(target=start, args=(str(n),)) for n in range(WORKERS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failures == []
        with holdfast.connect(url) as store:
            assert len(store.get_chat_history("shared")) == WORKERS
