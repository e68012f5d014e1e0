"""The offline model."""

from __future__ import annotations

import pytest

from holdfast.agents.offline import reply


@pytest.mark.parametrize(
    ("told", "asked", "answer"),
    [
        ("My name is Alice", "What is my name?", "Your name is Alice."),
        ("Hi, I'm Bob", "what's my name?", "Your name is Bob."),
        ("my dog's name is Rex, a lab", "What is my dog's name?", "Your dog's name is Rex."),
        ("My favourite number is 42.", "Tell me my favourite number?", "number is 42."),
        ("Hello", "What is my name?", "You have not told me your name."),
        ("What is my name?", "What is my name?", "You have not told me your name."),
        ("My name is Alice", "Nice weather", "You said: Nice weather"),
    ],
)
def test_answers_from_the_conversation(told: str, asked: str, answer: str) -> None:
    """It knows what users have told of themselves, and nothing else."""
    said = [
        {"role": "user", "content": told},
        {"role": "assistant", "content": reply([{"role": "user", "content": told}])},
        {"role": "user", "content": asked},
    ]
    assert answer in reply(said)


def test_the_last_word_counts() -> None:
    """Who says that something changed is believed."""
    said = [
        {"role": "user", "content": text}
        for text in ("My name is Alice", "My name is Eve", "What is my name?")
    ]
    assert "Eve" in reply(said)


@pytest.mark.parametrize("prompt", ["My name is Alice", "What is my name?", "Hello", ""])
def test_says_that_it_is_offline(prompt: str) -> None:
    """Nobody takes it for a model: each of its answers says that it is offline."""
    assert "offline" in reply([{"role": "user", "content": prompt}])


def test_answers_parts_and_empty_conversations() -> None:
    """A message of parts is its text, and a conversation without messages has an answer too."""
    parts = [{"type": "text", "text": "My name is Alice"}, {"type": "image_url", "image_url": "x"}]
    assert "Alice" in reply([{"role": "user", "content": parts}])
    assert "offline" in reply([])
