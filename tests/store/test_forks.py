"""A process that forks after `connect`, with or without open connections."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest

import holdfast

pytestmark = pytest.mark.skipif(
    not hasattr(__import__("os"), "fork"), reason="this system cannot fork"
)


def run(script: str, url: str) -> str:
    """Run a script in a process of its own: forking one with threads would harm the test's."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", textwrap.dedent(script), url],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_children_of_a_prefork_server_all_write(url: str) -> None:
    """connect, then fork: each child opens the store by itself, and nothing is lost."""
    run(
        """
        import os, sys, holdfast
        store = holdfast.connect(sys.argv[1])
        children = []
        for child in range(4):
            pid = os.fork()
            if pid == 0:
                for number in range(25):
                    store.add_user_message("shared", f"{child}-{number}")
                os._exit(0)
            children.append(pid)
        for pid in children:
            assert os.waitpid(pid, 0)[1] == 0
        assert len(store.get_chat_history("shared")) == 100
        """,
        url,
    )


def test_parent_and_child_go_on_after_a_fork_in_mid_work(url: str) -> None:
    """Open connections, a committer thread and a cache are the parent's; the child starts anew."""
    run(
        """
        import asyncio, os, sys, holdfast
        path = sys.argv[1]
        store = holdfast.connect(path)
        store.add_user_message("shared", "before")

        async def queued():                          # starts the committer thread
            store.add_user_message("shared", "queued")
        asyncio.run(queued())
        history = store.get_chat_history("shared")

        pid = os.fork()
        if pid == 0:
            for number in range(50):
                store.add_user_message("shared", f"child {number}")
            history.append({"role": "user", "content": "child's save"})
            store.set_chat_history("shared", history)
            store.close()
            sys.exit(0)                              # a whole exit: finalizers run
        for number in range(50):
            store.add_user_message("shared", f"parent {number}")
        assert os.waitpid(pid, 0)[1] == 0
        store.add_user_message("shared", "after")
        found = [m["content"] for m in store.get_chat_history("shared")]
        assert len(found) == len(set(found)) == 104, len(found)
        assert found[-1] == "after"
        assert store.verify()
        """,
        url,
    )


def test_ids_made_after_a_fork_differ(url: str) -> None:
    """Parent and child do not draw the same message ids."""
    run(
        """
        import os, sys, holdfast
        store = holdfast.connect(sys.argv[1])
        store.add_user_message("parent", "warm up")
        pid = os.fork()
        store.add_user_message("child" if pid == 0 else "parent", "same words")
        if pid == 0:
            os._exit(0)
        os.waitpid(pid, 0)
        ids = [m["id"] for s in ("parent", "child") for m in store.get_messages(s)]
        assert len(set(ids)) == 3, ids
        """,
        url,
    )


def test_a_child_does_not_keep_a_dead_parents_locks(url: str) -> None:
    """A parent killed in the middle of a commit leaves its turn to others, child or no child."""
    holdfast.connect(url).close()
    with subprocess.Popen(
        [
            sys.executable,
            "-c",
            textwrap.dedent(
                """
                import os, signal, sys, time, holdfast
                from holdfast.store.postgres import backend
                backend.FORK_WAIT_S = 0.5            # it waits for itself
                store = holdfast.connect(sys.argv[1])
                store.add_user_message("a", "one")
                assert store._engine.backend.admit(wait=True)   # the parent is writing
                if os.fork() == 0:
                    print(os.getpid(), flush=True)
                    time.sleep(60)
                    os._exit(0)
                time.sleep(60)
                """
            ),
            url,
        ],
        stdout=subprocess.PIPE,
        text=True,
    ) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        parent.kill()
        parent.wait()
        try:
            with holdfast.connect(url, timeout=60) as store:
                store.add_user_message("a", "two")
                assert len(store.get_chat_history("a")) == 2
        finally:
            import os
            import signal

            os.kill(child, signal.SIGKILL)


def test_parent_and_child_do_not_delete_each_others_log(url: str) -> None:
    """The parent closes the file while the child goes on writing: every write stays."""
    run(
        """
        import os, sys, holdfast
        store = holdfast.connect(sys.argv[1])
        store.add_user_message("a", "parent")
        store.get_chat_history("a")
        to_child, from_parent = os.pipe(), os.pipe()
        pid = os.fork()
        if pid == 0:
            store.add_user_message("a", "child before")
            os.write(from_parent[1], b"x")
            os.read(to_child[0], 1)
            for number in range(3):
                store.add_user_message("a", f"child after {number}")
            os._exit(0)
        os.read(from_parent[0], 1)
        store.close()                          # the last connection that this process knows of
        os.write(to_child[1], b"x")
        assert os.waitpid(pid, 0)[1] == 0
        with holdfast.connect(sys.argv[1]) as fresh:
            found = [m["content"] for m in fresh.get_chat_history("a")]
        assert found == ["parent", "child before", *(f"child after {n}" for n in range(3))], found
        """,
        url,
    )


def test_forking_waits_for_whoever_writes_or_reads(url: str) -> None:
    """Threads that are in the middle of it when the process forks do not harm the child."""
    run(
        """
        import os, sys, threading, holdfast
        store = holdfast.connect(sys.argv[1], timeout=60)
        stop = threading.Event()
        def work(number):
            while not stop.is_set():
                store.add_user_message(f"s{number}", "x")
                store.get_chat_history(f"s{number}", 5)
        crowd = [threading.Thread(target=work, args=(number,)) for number in range(6)]
        for thread in crowd:
            thread.start()
        for child in range(5):
            pid = os.fork()
            if pid == 0:
                store.add_user_message("children", str(child))
                assert store.get_chat_history("children")[-1]["content"] == str(child)
                os._exit(0)
            assert os.waitpid(pid, 0)[1] == 0
        stop.set()
        for thread in crowd:
            thread.join()
        assert len(store.get_chat_history("children")) == 5
        assert store.verify()
        """,
        url,
    )


def test_forking_while_threads_follow(url: str) -> None:
    """Who waits for news neither holds up a fork nor shares anything with the child."""
    run(
        """
        import os, sys, threading, holdfast
        from holdfast.store import engine
        from holdfast.store.postgres import backend as postgres
        from holdfast.store.sqlite import backend as sqlite
        for module in (engine, postgres, sqlite):
            module.FORK_WAIT_S = 3600    # a fork that is held up would not come back
        store = holdfast.connect(sys.argv[1], timeout=60)
        store.add_user_message("a", "first")
        seen, waiting = [], threading.Event()

        def follow(store, count):
            entries = store.follow("a")
            for _ in range(count):
                seen.append(next(entries).messages[0]["content"])
                waiting.set()

        follower = threading.Thread(target=follow, args=(store, 5))
        follower.start()
        assert waiting.wait(60)
        for child in range(3):
            pid = os.fork()
            if pid == 0:
                store.add_user_message("a", f"child {child}")
                seen.clear()
                follow(store, 2 + child)
                os._exit(0 if seen[-1] == f"child {child}" else 1)
            assert os.waitpid(pid, 0)[1] == 0
        store.add_user_message("a", "last")
        follower.join(60)
        assert seen == ["first", *(f"child {n}" for n in range(3)), "last"], seen
        """,
        url,
    )
