"""A runner in a turn: what it says is in the log before it goes on, however it ends."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, cast

import pytest

import holdfast
from holdfast.agents.adapting import FunctionRunner, as_runner
from holdfast.agents.driving import Answer, Asking, Stage, drive
from holdfast.agents.events import Event, ModelCall, Text, ToolCall, ToolCalls, ToolResult, Used
from holdfast.agents.runner import Runner
from holdfast.errors import ConfigError, InvalidArgument
from holdfast.model.usage import TurnStatus, UsageTotals
from holdfast.rules.history import History
from holdfast.store.async_store import AsyncSessionStore
from holdfast.testing.fakes.openai import FakeCall, FakeOpenAI, Scripted
from tests.agents.scene import MODEL, PATIENCE_S, endings, pydantic_agent, said, shown

SESSION = "telegram:42"


async def ask(
    store: AsyncSessionStore, runner: object, prompt: str = "Hi", key: str | None = None
) -> tuple[Answer, list[Event]]:
    """Let a runner answer, and return what was heard of it, too."""
    heard: list[Event] = []
    asking = Asking(session_id=SESSION, prompt=prompt, key=key)
    return await drive(store, as_runner(runner), asking, Stage(heard.append)), heard


async def left(store: AsyncSessionStore) -> tuple[list[tuple[str, object, str | None]], list[str]]:
    """Return what a session's messages say, and how its turns went."""
    return (
        said(await store.get_messages(SESSION)),
        endings(await store.read_entries(SESSION)),
    )


async def parrot(history: History) -> AsyncIterator[str]:
    """Answer what was said."""
    for word in str(history[-1]["content"]).split():
        yield word + " "


def test_a_function_answers() -> None:
    """An asynchronous generator function is a runner: its text is the answer."""

    async def run() -> None:
        async with holdfast.connect_async("memory://") as store:
            answer, heard = await ask(store, parrot, "Hello there")
            assert (answer.text, answer.status) == ("Hello there ", TurnStatus.COMPLETED)
            assert heard == [Text("Hello "), Text("there ")]
            assert await left(store) == (
                [("user", "Hello there", None), ("assistant", "Hello there ", None)],
                ["completed"],
            )

    asyncio.run(run())


def test_a_call_is_in_the_log_before_the_tool_runs() -> None:
    """A tool finds its own call in the log, and the model's next call finds its result there."""

    async def run() -> None:
        async with holdfast.connect_async("memory://") as store:
            seen: list[object] = []

            async def weather(city: str) -> str:
                """Return the weather of a city."""
                seen.append((await left(store))[0])
                return f"sunny in {city}"

            def script(body: dict[str, object]) -> Scripted:
                if len(fake.requests) == 1:
                    call = FakeCall("weather", '{"city": "Paris"}')
                    return Scripted(pieces=("Let me ", "look."), calls=(call,))
                seen.append(body["messages"])
                return Scripted(pieces=("It is ", "sunny."), usage=(20, 7))

            with FakeOpenAI(script) as fake:
                answer, _ = await ask(store, pydantic_agent(fake, [weather]))
            assert answer.text == "It is sunny."
            assert answer.usage == UsageTotals(input_tokens=30, output_tokens=12, requests=2)
            assert seen[0] == [("user", "Hi", None), ("assistant", "Let me look.", None)]
            assert isinstance(seen[1], list)
            assert seen[1][-1]["content"] == "sunny in Paris"
            history = await store.get_chat_history(SESSION)
            assert [m["role"] for m in history] == ["user", "assistant", "tool", "assistant"]
            assert history[1]["tool_calls"][0]["function"]["name"] == "weather"
            assert (await store.stats(SESSION)).usage.models[MODEL].requests == 2

    asyncio.run(run())


def test_the_next_turn_has_the_whole_history() -> None:
    """What the provider is sent is the conversation so far, tool exchanges included."""

    async def run() -> None:
        async with holdfast.connect_async("memory://") as store:
            script = [
                Scripted(calls=(FakeCall("clock"),)),
                Scripted(pieces=("Noon.",)),
                Scripted(pieces=("Sure.",)),
            ]

            def clock() -> str:
                """Return the time."""
                return "12:00"

            with FakeOpenAI(script) as fake:
                await ask(store, pydantic_agent(fake, [clock]), "What time is it?")
                await ask(store, pydantic_agent(fake, [clock]), "Really?")
            sent = [(m["role"], m.get("content")) for m in fake.requests[-1]["messages"]]
            assert sent == [
                ("user", "What time is it?"),
                ("assistant", None),
                ("tool", "12:00"),
                ("assistant", "Noon."),
                ("user", "Really?"),
            ]

    asyncio.run(run())


@pytest.mark.parametrize(
    ("fault", "shown"),
    [
        (Scripted(pieces=("a", "b", "c", "d"), cut_after=3), "abc"),
        (Scripted(status=400), None),
        (Scripted(status=500), None),
    ],
    ids=["cut", "400", "500"],
)
def test_a_provider_that_fails(fault: Scripted, shown: str | None) -> None:
    """Its error reaches the caller; what was shown is kept and marked, the usage unknown."""

    async def run() -> None:
        async with holdfast.connect_async("memory://") as store:
            failure = pytest.raises(Exception, match=r"Connection error|scripted")
            with FakeOpenAI([fault] * 3) as fake, failure:
                await ask(store, pydantic_agent(fake))
            partial = [("assistant", shown, "interrupted")] if shown else []
            assert await left(store) == ([("user", "Hi", None), *partial], ["failed"])
            usage = (await store.stats(SESSION)).usage
            assert (usage.requests, usage.unknown) == (1, 1)

    asyncio.run(run())


def test_an_overloaded_provider_is_asked_again() -> None:
    """A provider that says 429 once is asked again by its client, and the answer counts once."""

    async def run() -> None:
        async with holdfast.connect_async("memory://") as store:
            with FakeOpenAI([Scripted(status=429), Scripted(pieces=("Here.",))]) as fake:
                answer, _ = await ask(store, pydantic_agent(fake))
            assert answer.text == "Here."
            assert len(fake.requests) == 2
            assert answer.usage.requests == 1

    asyncio.run(run())


@pytest.mark.alone
def test_an_interrupt_stops_the_model(tmp_path: Path) -> None:
    """An interrupt of another store cuts the model's stream within a second, and keeps the text."""

    async def run() -> None:
        path = str(tmp_path / "chats.db")
        async with holdfast.connect_async(path) as store:
            await store.create_session(SESSION)
            held = Scripted(pieces=("One ", "two ", "three"), hold_after=2)
            with FakeOpenAI([held]) as fake, holdfast.connect(path) as other:
                answering = asyncio.create_task(ask(store, pydantic_agent(fake)))
                await shown(store, SESSION, "two ")
                started = time.monotonic()
                assert await asyncio.to_thread(other.interrupt, SESSION)
                answer, _ = await answering
                took = time.monotonic() - started
                fake.release()
            assert took < 1.0
            assert (answer.text, answer.status) == ("One two ", TurnStatus.INTERRUPTED)
            assert await left(store) == (
                [("user", "Hi", None), ("assistant", "One two ", "interrupted")],
                ["interrupted"],
            )
            assert (await store.stats(SESSION)).usage.unknown == 1

    asyncio.run(run())


@pytest.mark.alone
def test_an_interrupt_stops_a_tool() -> None:
    """An asynchronous tool is cancelled within a second; its call is there, without a result."""

    async def run() -> None:
        async with holdfast.connect_async("memory://") as store:
            called, ended = asyncio.Event(), asyncio.Event()

            async def wait() -> str:
                """Wait for ever."""
                called.set()
                try:
                    await asyncio.Event().wait()
                finally:
                    ended.set()
                return ""

            with FakeOpenAI([Scripted(pieces=("Hm.",), calls=(FakeCall("wait"),))]) as fake:
                answering = asyncio.create_task(ask(store, pydantic_agent(fake, [wait])))
                await called.wait()
                started = time.monotonic()
                assert await store.interrupt(SESSION)
                answer, _ = await answering
            assert time.monotonic() - started < 1.0
            assert ended.is_set()
            assert (answer.text, answer.status) == ("Hm.", TurnStatus.INTERRUPTED)
            history = await store.get_chat_history(SESSION)
            assert [m["role"] for m in history] == ["user", "assistant", "tool"]
            assert "may or may not" in history[-1]["content"]
            assert (await store.stats(SESSION)).usage.unknown == 0

    asyncio.run(run())


def test_an_interrupt_leaves_a_tool_that_blocks() -> None:
    """The turn ends while a tool still blocks its thread, and its call is left without a result."""

    async def run() -> None:
        async with holdfast.connect_async("memory://") as store:
            called, released, ended = threading.Event(), threading.Event(), threading.Event()

            def block() -> str:
                """Block."""
                called.set()
                released.wait(PATIENCE_S)
                ended.set()
                return "done"

            with FakeOpenAI([Scripted(calls=(FakeCall("block"),))]) as fake:
                answering = asyncio.create_task(ask(store, pydantic_agent(fake, [block])))
                assert await asyncio.to_thread(called.wait, PATIENCE_S)
                assert await store.interrupt(SESSION)
                answer, _ = await answering
            assert not ended.is_set()
            assert answer.status is TurnStatus.INTERRUPTED
            released.set()
            assert await asyncio.to_thread(ended.wait, PATIENCE_S)
            assert [m["role"] for m in await store.get_messages(SESSION)] == ["user", "assistant"]
            history = await store.get_chat_history(SESSION)
            assert "may or may not" in history[-1]["content"]

    asyncio.run(run())


def test_a_tool_that_fails() -> None:
    """A tool's own error reaches the caller and fails the turn; its call stays open in the log."""

    async def run() -> None:
        async with holdfast.connect_async("memory://") as store:

            def breaks() -> str:
                """Break."""
                raise OSError("no disk")

            script = [Scripted(calls=(FakeCall("breaks"),)), Scripted(pieces=("I see.",))]
            with FakeOpenAI(script) as fake:
                agent = pydantic_agent(fake, [breaks])
                with pytest.raises(OSError, match="no disk"):
                    await ask(store, agent)
                answer, _ = await ask(store, agent, "And now?")
            assert answer.text == "I see."
            assert (await left(store))[1] == ["failed", "completed"]
            # What the provider is sent has a result for every call.
            roles = [m["role"] for m in fake.requests[1]["messages"]]
            assert roles == ["user", "assistant", "tool", "user"]

    asyncio.run(run())


def test_a_cancelled_caller_leaves_what_was_shown() -> None:
    """Cancelling the caller's task cancels the model's call and keeps the text."""

    async def run() -> None:
        async with holdfast.connect_async("memory://") as store:
            await store.create_session(SESSION)
            with FakeOpenAI([Scripted(pieces=("One ", "two"), hold_after=1)]) as fake:
                answering = asyncio.create_task(ask(store, pydantic_agent(fake)))
                await shown(store, SESSION, "One ")
                answering.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await answering
                fake.release()
            messages, ended = await left(store)
            assert messages[-1] == ("assistant", "One ", "interrupted")
            assert ended == ["interrupted"]

    asyncio.run(run())


def test_a_key_that_was_answered_is_answered_again() -> None:
    """A repeated request gets the recorded answer, and no model is asked."""

    async def run() -> None:
        async with holdfast.connect_async("memory://") as store:
            first, _ = await ask(store, parrot, "Hello", key="r1")
            again, heard = await ask(store, never_asked, "Hello", key="r1")
            assert again.replayed
            assert (again.turn, again.text) == (first.turn, first.text)
            assert heard == [Text("Hello ")]

    asyncio.run(run())


async def never_asked(history: History) -> AsyncIterator[str]:
    """Fail: the recorded answer is to be given."""
    assert not history
    yield ""


def test_a_crashed_turn_is_answered_after_its_tool_exchanges() -> None:
    """A second attempt sees the first one's finished tool exchanges, and goes on behind them."""

    async def run() -> None:
        async with holdfast.connect_async("memory://") as store:

            async def breaks(history: History) -> AsyncIterator[Event]:
                yield ToolCalls((ToolCall("c1", "clock"),))
                yield ToolResult("c1", "noon")
                yield Text("It is ")
                raise OSError("the line is dead")

            seen: list[object] = []

            async def goes_on(history: History) -> AsyncIterator[Event]:
                seen.extend(m["role"] for m in history)
                yield Text("It is noon.")

            with pytest.raises(OSError, match="the line is dead"):
                await ask(store, breaks, key="r1")
            answer, _ = await ask(store, goes_on, key="r1")
            assert seen == ["user", "assistant", "tool"]
            assert answer.text == "It is noon."

    asyncio.run(run())


def test_text_between_calls_of_a_model_is_a_message() -> None:
    """A model that is asked again in a turn has said what it said; the answer is the last."""

    async def run() -> None:
        async with holdfast.connect_async("memory://") as store:

            async def twice(history: History) -> AsyncIterator[Event]:
                for text in ("Not that.", "This."):
                    yield ModelCall("m")
                    yield Text(text)
                    yield Used(model="m", input_tokens=1)

            answer, _ = await ask(store, twice)
            assert answer.text == "This."
            assert [content for _, content, _ in (await left(store))[0]] == [
                "Hi",
                "Not that.",
                "This.",
            ]

    asyncio.run(run())


@pytest.mark.parametrize("yielded", [None, 42, b"bytes", {"text": "x" * 200}, Text(None)])  # type: ignore[arg-type]
def test_what_is_no_event(yielded: object) -> None:
    """A runner that yields something else is told what that was, and what it may yield."""

    async def odd(_: History) -> AsyncIterator[object]:
        yield "Well, "
        yield yielded

    async def run() -> None:
        async with holdfast.connect_async("memory://") as store:
            with pytest.raises(InvalidArgument, match=f"yielded {type(yielded).__name__} ") as no:
                await ask(store, odd)
            assert no.value.code == "no_event"
            assert "text (str)" in no.value.hint
            assert "ToolResult" in no.value.hint
            assert len(no.value.message) < 160
            assert await left(store) == (
                [("user", "Hi", None), ("assistant", "Well, ", "interrupted")],
                ["failed"],
            )

    asyncio.run(run())


def test_no_empty_message() -> None:
    """A runner that says nothing leaves the prompt alone."""

    async def run() -> None:
        async with holdfast.connect_async("memory://") as store:

            async def silent(history: History) -> AsyncIterator[str]:
                yield ""

            answer, heard = await ask(store, silent)
            assert (answer.text, heard) == ("", [])
            assert await left(store) == ([("user", "Hi", None)], ["completed"])

    asyncio.run(run())


def _plain_function(history: History) -> str:
    return "no generator"


@pytest.mark.parametrize("thing", [None, "openai:gpt", _plain_function, Runner])
def test_what_cannot_answer_is_refused(thing: object) -> None:
    """Whatever is no runner and cannot be made one is refused, with what would be one."""
    with pytest.raises(ConfigError, match="cannot answer"):
        as_runner(thing)


class Forgetful:
    """A runner that returns its answer."""

    async def answer(self, _: History) -> str:
        """Return where to yield."""
        return "Hello"


async def _forgetful(_: History) -> str:
    return "Hello"


@pytest.mark.parametrize("thing", [Forgetful(), _forgetful])
def test_a_coroutine_function_is_refused(thing: Any) -> None:
    """Who forgot to yield is told so, and where, before anything is asked."""
    with pytest.raises(ConfigError, match=r"(Forgetful\.answer|_forgetful) cannot answer") as no:
        as_runner(thing)
    assert "coroutine function" in no.value.message
    assert "yield" in no.value.hint


@pytest.mark.parametrize(
    ("runner", "gave"),
    [
        (Forgetful(), "Forgetful.answer gave a coroutine"),
        (FunctionRunner(cast(Any, _forgetful)), "_forgetful gave a coroutine"),
        (FunctionRunner(cast(Any, lambda _: "Hello")), "a runner gave a str"),
    ],
)
def test_what_streams_no_events(runner: Any, gave: str) -> None:
    """A runner that does not stream is named in a typed error, and the turn is closed as failed."""

    async def run() -> None:
        async with holdfast.connect_async("memory://") as store:
            with pytest.raises(InvalidArgument, match=gave) as no:
                await drive(store, runner, Asking(session_id=SESSION, prompt="Hi"), Stage())
            assert no.value.code == "no_event"
            assert await left(store) == ([("user", "Hi", None)], ["failed"])

    asyncio.run(run())


@pytest.mark.parametrize("make", [lambda: parrot, lambda: as_runner(parrot)])
def test_what_can_answer(make: Callable[[], object]) -> None:
    """A runner stays what it is, and a generator function becomes one."""
    assert isinstance(as_runner(make()), Runner)
