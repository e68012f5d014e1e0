"""Long conversations: what a model is sent, and what becomes of the rest."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

import holdfast
from holdfast.agents import Agent, needs_approval
from holdfast.agents.fitting import ASK, HEADING, estimated_tokens, fitting
from holdfast.errors import ConfigError
from holdfast.model.entry import ResetEntry
from holdfast.model.message import Message
from holdfast.rules.repair import exchanges, repair
from holdfast.rules.window import reaches_back
from holdfast.testing.fakes.openai import FakeCall, FakeOpenAI, Scripted
from tests.agents.scene import MODEL, endings

SESSION = "long"
LONG = "word " * 60
BUDGET = 400


@pytest.fixture
def store() -> Iterator[holdfast.SessionStore]:
    """A store in memory, with a conversation that is longer than the budget."""
    with holdfast.connect("memory://") as opened:
        for number in range(10):
            opened.add_user_message(SESSION, f"question {number} {LONG}")
            opened.add_assistant_message(SESSION, f"answer {number}")
        yield opened


def agent(store: holdfast.SessionStore, fake: FakeOpenAI, **more: Any) -> Agent:
    """Return an agent with a budget."""
    return Agent(
        model=MODEL,
        base_url=fake.base_url,
        session=SESSION,
        store=store,
        history_tokens=BUDGET,
        **more,
    )


def resets(store: holdfast.SessionStore) -> list[str]:
    """Return why the session's history began anew."""
    return [e.reason for e in store.read_entries(SESSION) if isinstance(e, ResetEntry)]


def test_a_model_is_sent_what_fits(store: holdfast.SessionStore) -> None:
    """Without compacting, the model gets the end of the history, and the log is untouched."""
    with FakeOpenAI([Scripted(pieces=("Yes.",))]) as fake:
        agent(store, fake, instructions="Be brief.").start("Still there?")
    sent = fake.requests[0]["messages"]
    assert sent[0] == {"role": "system", "content": "Be brief."}
    assert sent[-1]["content"] == "Still there?"
    assert 2 < len(sent) < 12
    assert estimated_tokens(sent[1:]) <= BUDGET
    assert len(store.get_chat_history(SESSION)) == 22
    assert resets(store) == []


def test_what_fits_is_sent_after_an_approval(store: holdfast.SessionStore) -> None:
    """A model that is asked again after an approval is sent no more than before, and the result."""

    @needs_approval
    def refund(amount: int) -> str:
        """Pay money back."""
        return f"paid {amount}"

    call = FakeCall("refund", '{"amount": 5}', "c1")
    with FakeOpenAI([Scripted(calls=(call,)), Scripted(pieces=("Done.",))]) as fake:
        helper = agent(store, fake, tools=[refund])
        helper.start("My money back")
        assert helper.approve("c1").text == "Done."
    before, after = (request["messages"] for request in fake.requests)
    assert [message["content"] for message in after][-3:] == ["My money back", None, "paid 5"]
    assert len(after) <= len(before) + 2
    assert after[0]["content"] in [message["content"] for message in before]


def test_the_rest_is_summarised(store: holdfast.SessionStore) -> None:
    """The model's own summary takes the place of the rest; the original stays readable."""

    def tool() -> str:
        """Do something."""
        return "done"

    script = [
        Scripted(pieces=("They asked ", "ten things."), usage=(100, 9)),
        Scripted(pieces=("Yes.",)),
    ]
    before = store.get_chat_history(SESSION)
    with FakeOpenAI(script) as fake:
        helper = agent(store, fake, compact="auto", tools=[tool], instructions="Be brief.")
        reply = helper.start("Still there?", stream=True)
        assert list(reply) == ["Yes."]
        summarising, answering = fake.requests
    assert summarising["messages"][-1]["content"].endswith(ASK)
    assert "tools" not in summarising
    assert HEADING + "They asked ten things." in [m["content"] for m in answering["messages"]]
    assert answering["messages"][-1]["content"] == "Still there?"
    assert resets(store) == ["compact"]
    history = store.get_chat_history(SESSION)
    assert history[0] == {"role": "system", "content": HEADING + "They asked ten things."}
    assert [m["content"] for m in history][-2:] == ["Still there?", "Yes."]
    # What was kept is the end of what was there, whole.
    assert history[1:-2] == before[-len(history[1:-2]) :]
    assert store.get_chat_history(SESSION, at=before.revision) == before
    assert reply.usage.requests == 2
    assert store.stats(SESSION).usage.input_tokens == 110
    assert endings(store.read_entries(SESSION)) == ["completed"]
    assert store.verify().problems == []


@pytest.mark.parametrize(
    "fault",
    [
        Scripted(pieces=("  ",)),
        Scripted(pieces=("Half a ", "summ", "ary"), cut_after=2),
        Scripted(status=400),
        Scripted(calls=(FakeCall("nothing"),)),
    ],
    ids=["empty", "cut", "refused", "tools"],
)
def test_no_summary_changes_nothing(store: holdfast.SessionStore, fault: Scripted) -> None:
    """Where no summary is made, the answer comes all the same and no generation begins."""
    with FakeOpenAI([fault, Scripted(pieces=("Yes.",))]) as fake:
        assert agent(store, fake, compact="auto").start("Still there?") == "Yes."
    assert len(fake.requests) == 2
    assert resets(store) == []
    assert len(store.get_chat_history(SESSION)) == 22


def test_the_offline_model_remembers(store: holdfast.SessionStore) -> None:
    """Facts survive the offline model's own summary."""
    with holdfast.connect("memory://") as fresh:
        helper = Agent(
            model="offline", session=SESSION, store=fresh, history_tokens=BUDGET, compact="auto"
        )
        helper.start("My name is Alice")
        for number in range(8):
            helper.start(f"Listen {number} {LONG}")
        assert "compact" in resets(fresh)
        assert "Your name is Alice" in helper.start("What is my name?")


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"history_tokens": 0}, "above 0"),
        ({"compact": "auto"}, "history_tokens="),
        ({"compact": "always", "history_tokens": 10}, "unknown"),
    ],
)
def test_settings_that_say_nothing(settings: dict[str, Any], complaint: str) -> None:
    """Settings of a budget that cannot work are refused."""
    with pytest.raises(ConfigError, match=complaint):
        Agent(model="offline", store="memory://", **settings)


def test_each_message_is_measured_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """However long a history is, and wherever it is cut, each of its messages is encoded once."""
    encode = msgspec.json.encode
    encoded: list[Any] = []

    def counting(value: Any) -> bytes:
        encoded.append(value)
        return encode(value)

    monkeypatch.setattr(msgspec.json, "encode", counting)
    history: list[Message] = [{"role": "user", "content": LONG} for _ in range(200)]
    assert len(fitting(history, 10_000_000)) == 200
    assert len(encoded) == 200
    calls = [{**CALL, "id": f"c{n}"} for n in range(100)]
    results: list[Message] = [
        {"role": "tool", "content": LONG, "tool_call_id": call["id"]} for call in calls
    ]
    asked: Message = {"role": "assistant", "content": None, "tool_calls": calls}
    encoded.clear()
    assert len(fitting([*history, asked, *results], 1)) == 102
    assert len(encoded) <= 301


def test_nothing_to_summarise(store: holdfast.SessionStore) -> None:
    """A first prompt that is longer than the budget is answered, and no summary is invented."""
    with holdfast.connect("memory://") as fresh, FakeOpenAI([Scripted(pieces=("Yes.",))]) as fake:
        fresh.add_message(SESSION, "system", "Be kind.")
        assert agent(fresh, fake, compact="auto").start(LONG * 10) == "Yes."
        assert len(fake.requests) == 1
        assert resets(fresh) == []


def test_instructions_survive_summaries() -> None:
    """A system message that begins the history stands before each summary, word for word, once."""
    summaries = itertools.count(1)

    def script(body: Any) -> Scripted:
        asked = str(body["messages"][-1]["content"])
        return Scripted(pieces=(f"summary {next(summaries)}" if ASK in asked else "Yes.",))

    with holdfast.connect("memory://") as fresh, FakeOpenAI(script) as fake:
        fresh.add_message(SESSION, "system", "Always answer in French.")
        helper = agent(fresh, fake, compact="auto")
        for _ in range(10):
            helper.start(LONG)
        made = len(resets(fresh))
        assert made > 1
        head = f"Always answer in French.\n\n{HEADING}summary {made}"
        assert fake.requests[-1]["messages"][0] == {"role": "system", "content": head}
        assert fresh.get_chat_history(SESSION)[0] == {"role": "system", "content": head}


CALL = {"type": "function", "function": {"name": "f", "arguments": "{}"}}
MESSAGES: st.SearchStrategy[Message] = st.one_of(
    st.builds(lambda t: {"role": "user", "content": t}, st.text(max_size=40)),
    st.builds(
        lambda ids: {
            "role": "assistant",
            "content": None,
            "tool_calls": [{**CALL, "id": i} for i in ids],
        },
        st.lists(st.sampled_from("ab"), unique=True, min_size=1),
    ),
    st.builds(lambda t: {"role": "assistant", "content": t}, st.text(max_size=40)),
    st.builds(lambda i: {"role": "tool", "content": "x", "tool_call_id": i}, st.sampled_from("ab")),
)


@given(st.lists(MESSAGES, max_size=15), st.integers(1, 200))
def test_exchanges_stay_whole(history: list[Message], tokens: int) -> None:
    """What fits is the end of a history, begins outside of any exchange, and holds the prompt."""
    history = repair([{"role": "system", "content": "Be kind."}, *history])
    found = fitting(history, tokens)
    assert found[0] == history[0]
    rest = found[1:]
    assert rest == history[len(history) - len(rest) :]
    assert not reaches_back(rest)
    assert all(result is not None for each in exchanges(rest).values() for _, result in each)
    users = [n for n, m in enumerate(history) if m["role"] == "user"]
    if users and not reaches_back(history[users[-1] :]):
        assert len(rest) >= len(history) - users[-1]
