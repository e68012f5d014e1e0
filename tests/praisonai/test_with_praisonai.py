"""The drop-in in PraisonAI's own hands: its bots, its agents, its protocols."""

from __future__ import annotations

import inspect
import json
import threading
from collections.abc import Iterable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

import holdfast
from holdfast.integrations.praisonai import DefaultSessionStore
from holdfast.model.entry import MessageEntry
from tests.praisonai.conftest import Start, heard

WORKERS, TURNS = 4, 40
SESSION = "bot_telegram_ada"


def test_every_public_method_is_there(start: Start) -> None:
    """Each public method of PraisonAI's class is here, with its parameters in their order."""
    for name, wanted in heard(start("signatures")).items():
        method = getattr(DefaultSessionStore, name)
        found = list(inspect.signature(method).parameters)
        assert [one for one in found if one in wanted] == wanted, name


def test_protocols(start: Start, tmp_path: Path) -> None:
    """PraisonAI takes the drop-in for every kind of store that its protocols describe."""
    assert heard(start("protocols", tmp_path / "chats.db")) == [True] * 5


def talked(start: Start, place: str, path: Path, limit: int) -> list[int]:
    """Run all turns, and return how many saves each process complained about."""
    workers = [
        start("bot", place, path, f"worker{number}", TURNS, limit) for number in range(WORKERS)
    ]
    return [heard(worker) for worker in workers]


WANTED = {f"worker{worker}-{number}" for worker in range(WORKERS) for number in range(TURNS)}


def prompts(texts: Iterable[str]) -> set[str]:
    """Return what the user said, without the answers."""
    return {text for text in texts if not text.startswith("re ")}


def test_the_race_is_one(start: Start, tmp_path: Path) -> None:
    """The same four processes on PraisonAI's own store lose turns, as the test can tell."""
    talked(start, "theirs", tmp_path / "sessions", 0)
    (file,) = (tmp_path / "sessions").glob("*.json")
    said = [message["content"] for message in json.loads(file.read_text("utf-8"))["messages"]]
    assert prompts(said) < WANTED


@pytest.mark.parametrize("limit", [0, 100])
def test_four_processes_of_one_user(start: Start, tmp_path: Path, *, limit: int) -> None:
    """Four processes run 160 turns of one user through the bot session manager: all are kept.

    Also where it cuts its histories at a limit, which makes each of its saves a rewrite: then the
    last ones are the history, and the log has them all.
    """
    path = tmp_path / "chats.db"
    assert talked(start, "ours", path, limit) == [0] * WORKERS
    with holdfast.connect(path) as store:
        logged = {
            message["id"]: message["content"]
            for entry in store.read_entries(SESSION)
            if isinstance(entry, MessageEntry)
            for message in entry.messages
        }
        history = [message["content"] for message in store.get_chat_history(SESSION)]
        assert store.verify()
    assert prompts(logged.values()) == WANTED
    assert len(logged) == 2 * len(WANTED)
    assert len(history) == len(set(history))
    if limit == 0:
        assert prompts(history) == WANTED


@pytest.fixture
def model() -> Iterator[str]:
    """The URL of a model that answers with how many messages it was given."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            text = f"I was told {len(asked['messages'])} messages"
            answer: dict[str, Any] = {
                "id": "1",
                "object": "chat.completion",
                "created": 1,
                "model": asked["model"],
                "choices": [
                    {
                        "index": 0,
                        "finish_reason": "stop",
                        "message": {"role": "assistant", "content": text},
                    }
                ],
                "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
            }
            body = json.dumps(answer).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/v1"
    server.shutdown()
    thread.join()
    server.server_close()


def test_an_agent_remembers(start: Start, tmp_path: Path, model: str) -> None:
    """An agent of PraisonAI finds in another process what it was told, by way of `install`."""
    path = tmp_path / "chats.db"
    first = heard(start("agent", path, "telegram:42", model, "My name is Ada"))
    second = heard(start("agent", path, "telegram:42", model, "What is my name?"))
    other = heard(start("agent", path, "telegram_42", model, "Who am I?"))
    said = [message["content"] for message in second["history"]]
    assert first["answer"] == "I was told 2 messages"
    assert second["answer"] == "I was told 4 messages"
    assert said == ["My name is Ada", first["answer"], "What is my name?", second["answer"]]
    assert [message["content"] for message in other["history"]] == ["Who am I?", other["answer"]]
    with holdfast.connect(path) as store:
        info = store.get_session("telegram:42")
        assert (info.agent_name, info.message_count) == ("Assistant", 4)
