"""A small model that needs no key and no network, for demos, docs and tests.

It answers from the conversation itself, always in the same way, and says that it is offline. Nobody
gets it without asking for it.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Sequence
from typing import Any

from holdfast.agents.events import Event, ModelCall, Text, Used
from holdfast.model.message import Message
from holdfast.rules.history import History

NAME = "offline"
"""How it is asked for."""

_TOLD = re.compile(r"\bmy ([\w' -]{1,60}?) (?:is|are) (?!what\b)([^.,;!?\n]+)", re.IGNORECASE)
_ASKED = re.compile(r"\bmy ([\w' -]{1,60}?)\s*\?", re.IGNORECASE)
_CALLED = re.compile(r"\b(?:I am|I'm|call me) ([A-Z][\w'-]*)")
_WORDS = re.compile(r"\S+\s*")


class OfflineRunner:
    """Answers what the conversation has told before, and else says what was asked."""

    async def answer(self, history: History) -> AsyncIterator[Event]:
        """Yield the answer word by word; a token is a word."""
        yield ModelCall(NAME)
        words = _WORDS.findall(reply(history))
        for word in words:
            yield Text(word)
        told = sum(len(text_of(message).split()) for message in history)
        yield Used(model=NAME, input_tokens=told, output_tokens=len(words))

    async def summarise(self, history: History) -> AsyncIterator[Event]:
        """Yield what users have told of themselves, in sentences that it understands later."""
        yield ModelCall(NAME)
        said = [text_of(message) for message in history if message["role"] in ("user", "system")]
        facts = [f"My {subject} is {value}." for subject, value in _facts(said).items()]
        yield Text("\n".join(facts))
        told = sum(len(text.split()) for text in said)
        yield Used(model=NAME, input_tokens=told, output_tokens=4 * len(facts))


def reply(history: Sequence[Message]) -> str:
    """Return the offline model's answer to a conversation."""
    said = [text_of(message) for message in history if message["role"] == "user"]
    prompt = said[-1] if said else ""
    told = [text_of(message) for message in history if message["role"] in ("user", "system")]
    facts = _facts(told)
    asked = _ASKED.search(prompt)
    if asked:
        subject = _plain(asked[1])
        if subject in facts:
            return f"Your {subject} is {facts[subject]}. (I am offline.)"
        return f"You have not told me your {subject}. (I am offline.)"
    new = _facts([prompt])
    if new:
        subject, value = next(iter(new.items()))
        return f"I will remember that your {subject} is {value}. (I am offline.)"
    return f"I am offline, so all I can do is remember. You said: {prompt}"


def text_of(message: Message) -> str:
    """Return a message's text, that of its parts if there are several."""
    content: Any = message.get("content")
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    return " ".join(
        part["text"]
        for part in parts
        if isinstance(part, dict) and isinstance(part.get("text"), str)
    )


def _facts(said: Sequence[str]) -> dict[str, str]:
    """Return what users said of themselves, the last word on each."""
    facts: dict[str, str] = {}
    for text in said:
        if _ASKED.search(text):
            continue
        facts |= {_plain(subject): value.strip() for subject, value in _TOLD.findall(text)}
        called = _CALLED.findall(text)
        if called:
            facts["name"] = called[-1]
    return facts


def _plain(subject: str) -> str:
    return " ".join(subject.lower().split())
