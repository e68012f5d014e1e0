"""The fake provider, as OpenAI's own client sees it."""

from __future__ import annotations

import threading

import openai
import pytest
from openai.types.chat import ChatCompletionMessageParam

from holdfast.testing.fakes.openai import FakeCall, FakeOpenAI, Scripted
from tests.agents.scene import wait_for

ASKED: list[ChatCompletionMessageParam] = [{"role": "user", "content": "Hi"}]


def client(fake: FakeOpenAI, retries: int = 0) -> openai.OpenAI:
    """Return OpenAI's own client, pointed at the fake."""
    return openai.OpenAI(base_url=fake.base_url, api_key="none", max_retries=retries)


def streamed(fake: FakeOpenAI) -> tuple[str, list[str], int]:
    """Return a stream's text, the arguments of its tool calls, and the tokens it tells."""
    text, arguments, tokens = "", [], 0
    with client(fake) as ours:
        stream = ours.chat.completions.create(
            model="m",
            messages=ASKED,
            stream=True,
            stream_options={"include_usage": True},
        )
        for chunk in stream:
            for choice in chunk.choices:
                text += choice.delta.content or ""
                for call in choice.delta.tool_calls or ():
                    assert call.function is not None
                    arguments.append(call.function.arguments or "")
            tokens += chunk.usage.total_tokens if chunk.usage else 0
    return text, arguments, tokens


def test_streams_text_calls_and_usage() -> None:
    """The client reads what was scripted: text, a call in two halves, and the usage at the end."""
    call = FakeCall("weather", '{"city": "Paris"}')
    with FakeOpenAI([Scripted(pieces=("a", "b"), calls=(call,), usage=(3, 4))]) as fake:
        text, arguments, tokens = streamed(fake)
    assert (text, "".join(arguments), tokens) == ("ab", '{"city": "Paris"}', 7)
    assert fake.requests[0]["messages"] == ASKED


def test_answers_whole() -> None:
    """A request that asks for no stream gets the whole answer."""
    with (
        FakeOpenAI([Scripted(pieces=("a", "b"), calls=(FakeCall("f"),))]) as fake,
        client(fake) as ours,
    ):
        done = ours.chat.completions.create(
            model="m",
            messages=ASKED,
        )
    message = done.choices[0].message
    assert message.content == "ab"
    assert message.tool_calls is not None
    assert done.usage is not None
    assert done.usage.prompt_tokens == 10


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, openai.BadRequestError),
        (401, openai.AuthenticationError),
        (429, openai.RateLimitError),
        (500, openai.InternalServerError),
    ],
)
def test_faults_are_the_clients_errors(status: int, error: type[Exception]) -> None:
    """A scripted status is the error that the client has for it; at a script's end it is 500."""
    script = [] if status == 500 else [Scripted(status=status)]
    with FakeOpenAI(script) as fake, pytest.raises(error):
        streamed(fake)


def test_a_cut_stream_is_an_error() -> None:
    """A stream that is cut does not look as if it had ended."""
    cut = Scripted(pieces=("a", "b", "c"), cut_after=2)
    with FakeOpenAI([cut]) as fake, pytest.raises(openai.APIConnectionError):
        streamed(fake)


def test_a_stream_is_held_back_until_released() -> None:
    """A held stream ends only once it is released, and whoever hangs up is noticed."""
    held = Scripted(pieces=("a", "b"), hold_after=1)
    with FakeOpenAI([held, held]) as fake:
        found: list[str] = []
        reader = threading.Thread(target=lambda: found.append(streamed(fake)[0]))
        reader.start()
        wait_for(lambda: len(fake.requests) == 1, "the request")
        assert not found
        fake.release()
        reader.join()
        assert found == ["ab"]


def test_a_function_can_script() -> None:
    """A script may be a function of the request."""
    with FakeOpenAI(lambda body: Scripted(pieces=(body["messages"][0]["content"],))) as fake:
        assert streamed(fake)[0] == "Hi"


def test_slow_pieces_take_their_time() -> None:
    """Pieces can be slow, and closing the server does not wait for them."""
    slow = Scripted(pieces=("a", "b"), delay=0.01)
    with FakeOpenAI([slow]) as fake:
        assert streamed(fake)[0] == "ab"
