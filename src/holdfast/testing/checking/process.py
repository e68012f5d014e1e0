"""A process of clients: threads or tasks. It may be killed, and goes on where it was.

Run as `python -m holdfast.testing.checking.process NUMBER`, with the plan on standard input. It
says on standard output how many operations it has come on by.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import threading
from collections.abc import Callable, Sequence
from typing import TypeAlias

import msgspec

from holdfast.testing.checking.client import Client, Stores
from holdfast.testing.checking.faces import Faces
from holdfast.testing.checking.plan import HASTE_S, TENANTS, Plan
from holdfast.testing.checking.recorder import drive
from holdfast.testing.checking.recording import ClientLog

Tell: TypeAlias = Callable[[int], None]


def main() -> None:
    """Be the process with that number."""
    plan = msgspec.json.decode(sys.stdin.buffer.read(), type=Plan)
    number = int(sys.argv[1])
    work = work_as_threads if number % 2 == 0 else work_as_tasks
    with Faces(plan) as faces:
        work(plan, faces, plan.names(number), _tell)


def _tell(count: int) -> None:
    with contextlib.suppress(BrokenPipeError):
        sys.stdout.write(f"{count}\n")
        sys.stdout.flush()


def work_as_threads(plan: Plan, faces: Faces, names: Sequence[str], tell: Tell) -> None:
    """Run these clients, each on a thread."""
    stores = {
        tenant: Stores(faces.for_threads(tenant), faces.for_threads(tenant, HASTE_S))
        for tenant in TENANTS
    }
    failures: list[BaseException] = []

    def work(name: str) -> None:
        try:
            with contextlib.closing(ClientLog(plan.path, name)) as log:
                drive(Client(log, stores, plan.seed).work(plan.share(), tell))
        except BaseException as error:  # noqa: BLE001 - raised below, on the thread that waits
            failures.append(error)

    threads = [threading.Thread(target=work, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


def work_as_tasks(plan: Plan, faces: Faces, names: Sequence[str], tell: Tell) -> None:
    """Run these clients, each in a task of one loop."""
    stores = {
        tenant: Stores(faces.for_tasks(tenant), faces.for_tasks(tenant, HASTE_S))
        for tenant in TENANTS
    }

    async def work(name: str) -> None:
        with contextlib.closing(ClientLog(plan.path, name)) as log:
            client = Client(log, stores, plan.seed, lambda: asyncio.timeout(HASTE_S))
            await client.work(plan.share(), tell)

    async def work_all() -> None:
        async with asyncio.TaskGroup() as group:
            for name in names:
                group.create_task(work(name))

    asyncio.run(work_all())


if __name__ == "__main__":
    main()
