"""Processes that agents answer in: programs, or forked from one, with the words ROLE PATH URL NAME.

As a program it is `python -m tests.agents.worker` and these words; see also `tests.forking`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence

from holdfast.agents import Agent, needs_approval

SESSION = "telegram:42"
STARTS = 3


def agent(path: str, base_url: str) -> Agent:
    """Return an agent that talks to a fake provider, or is offline if there is none."""
    if base_url == "offline":
        return Agent("Helper", model="offline", session=SESSION, store=path)
    return Agent("Helper", model="fake-1", base_url=base_url, session=SESSION, store=path)


def starts(path: str, base_url: str, name: str) -> None:
    """Ask several times, one after the other."""
    asked = agent(path, base_url)
    for number in range(STARTS):
        asked.start(f"{name}:{number}")


def stream(path: str, base_url: str, name: str) -> None:
    """Show an answer as it streams."""
    for _ in agent(path, base_url).start(name, stream=True):
        pass


def unread(path: str, base_url: str, name: str) -> None:
    """Begin an answer, read none of it, and come to the end of the program."""
    agent(path, base_url).start(name, stream=True)


def whole(path: str, base_url: str, name: str) -> None:
    """Ask once, and say so if Ctrl-C comes meanwhile."""
    try:
        agent(path, base_url).start(name)
    except KeyboardInterrupt:
        sys.stdout.write("stopped\n")


def dies_in_a_tool(path: str, base_url: str, key: str) -> None:
    """Die while a tool is being called."""

    def pay() -> str:
        """Pay."""
        os._exit(9)

    payer = Agent(model="fake-1", base_url=base_url, session=SESSION, store=path, tools=[pay])
    payer.start("Pay it", key=key)


def dies_once_approved(path: str, base_url: str, key: str) -> None:
    """Die while a tool is being called that a person has agreed to."""

    @needs_approval
    def pay() -> str:
        """Pay."""
        os._exit(9)

    payer = Agent(model="fake-1", base_url=base_url, session=SESSION, store=path, tools=[pay])
    payer.start("Pay it", key=key)
    payer.approve("c1").wait()


def keyed(path: str, base_url: str, key: str) -> None:
    """Ask with a key, and with a tool at hand; a request that is sent again is answered once."""

    def weather(city: str) -> str:
        """Return the weather of a city."""
        return f"sunny in {city}"

    asked = Agent(model="fake-1", base_url=base_url, session=SESSION, store=path, tools=[weather])
    asked.start(key, key=key)


ROLES: dict[str, Callable[[str, str, str], None]] = {
    "starts": starts,
    "stream": stream,
    "unread": unread,
    "whole": whole,
    "keyed": keyed,
    "dies_in_a_tool": dies_in_a_tool,
    "dies_once_approved": dies_once_approved,
}


def main(words: Sequence[str]) -> None:
    """Do the role."""
    role, path, base_url, name = words
    ROLES[role](path, base_url, name)


if __name__ == "__main__":
    main(sys.argv[1:])
