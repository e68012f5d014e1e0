"""`holdfast session`."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

import holdfast
from holdfast.store.sources import Sources
from tests.cli.conftest import Run


def test_list_shows_the_one_changed_last_first(run: Run, path: Path) -> None:
    """A list has each session's id, title, user, agent, message count and age."""
    result = run("session", "list", "--store", str(path))
    assert result.exit_code == 0
    head, *rows = [re.split(r"  +", line.strip()) for line in result.stdout.splitlines()]
    assert head == ["ID", "TITLE", "USER", "AGENT", "MESSAGES", "UPDATED"]
    assert rows == [
        ["trip", "To Lisbon", "alice", "guide", "4", "just now"],
        ["other", "0", "just now"],
    ]
    assert result.stderr == ""


def test_list_as_json(run: Run, path: Path) -> None:
    """The JSON of a list says which store and tenant, and has times as ISO 8601 in UTC."""
    found = json.loads(run("--json", "session", "list", "--store", str(path)).stdout)
    assert found["store"] == str(path)
    assert found["tenant"] == "default"
    assert found["next_cursor"] is None
    trip, other = found["sessions"]
    assert other["id"] == "other"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", trip.pop("updated_at"))
    assert trip.pop("created_at").endswith("Z")
    assert trip.pop("revision") > 0
    assert trip == {
        "id": "trip",
        "title": "To Lisbon",
        "user_id": "alice",
        "agent_name": "guide",
        "message_count": 4,
        "status": "idle",
        "metadata": {"lang": "pt"},
        "labels": {},
        "lease_left_s": None,
    }


def test_list_goes_on_at_the_cursor(run: Run, path: Path) -> None:
    """A page that is not the last says how to get the next, and that works."""
    first = run("session", "list", "--store", str(path), "--limit", "1")
    assert "trip" in first.stdout
    found = re.search(r"add (--cursor \S+)", first.stderr)
    assert found is not None
    second = run("session", "list", "--store", str(path), "--limit", "1", *found[1].split())
    assert "other" in second.stdout
    assert "trip" not in second.stdout
    assert second.stderr == ""


@pytest.mark.parametrize(("option", "value"), [("--user", "alice"), ("--agent", "guide")])
def test_list_narrows(run: Run, path: Path, option: str, value: str) -> None:
    """--user and --agent leave out what is not theirs."""
    found = run("session", "list", "--store", str(path), option, value).stdout
    assert "trip" in found
    assert "other" not in found
    nothing = run("session", "list", "--store", str(path), option, "nobody")
    assert nothing.exit_code == 0
    assert nothing.stderr == f"No sessions that match in {path}.\n"


def test_ages_are_what_people_say(run: Run, tmp_path: Path) -> None:
    """A session's age is minutes, hours, days, and a date when it is long ago."""
    import time

    now = int(time.time() * 1000)
    day = 86_400_000
    for name, back in (("y", 400 * day), ("d", 3 * day), ("h", 7_300_000), ("m", 120_000)):
        sources = Sources(now_ms=lambda back=back: now - back)  # type: ignore[misc]
        with holdfast.connect(str(tmp_path / "a.db"), sources=sources) as store:
            store.add_user_message(name, "hello")
    shown = run("session", "list", "--store", str(tmp_path / "a.db")).stdout
    assert re.search(
        r"m .* 2 min ago\nh .* 2 h ago\nd .* 3 days ago\ny .* 20\d\d-\d\d-\d\d\n", shown
    )


def test_show_is_readable(run: Run, path: Path) -> None:
    """A conversation shows roles, text line by line, calls with arguments, and whose result."""
    shown = run("session", "show", "trip", "--store", str(path)).stdout
    for text in (
        "To Lisbon\nsession trip · user alice · agent guide · 4 messages · revision ",
        "\n  Will it rain?\n",
        '\n  calls weather({"city":"Lisbon"})  as call_1\n',
        "\ntool  result of call_1  ",
        "\n  sunny\n",
        "\nassistant  (interrupted)  ",
        "\n  No\n  rain\n",
    ):
        assert text in shown
    assert "metadata" not in shown
    assert "msg_" not in shown


def test_show_full_adds_ids_and_metadata(run: Run, path: Path) -> None:
    """--full adds message ids, metadata and the session's creation."""
    shown = run("session", "show", "trip", "--full", "--store", str(path)).stdout
    assert 'metadata {"lang": "pt"}' in shown
    assert '  metadata: {"state": "interrupted"}' in shown
    assert shown.count("  id: msg_") == 4
    assert "\ncreated 20" in shown


def test_show_cuts_long_values_unless_full(run: Run, tmp_path: Path) -> None:
    """A long part is cut with its length, and --full shows all of it."""
    place = str(tmp_path / "long.db")
    with holdfast.connect(place) as store:
        part = {"type": "image_url", "image_url": {"url": "data:" + "A" * 5000}}
        store.add_user_message("s", [{"type": "text", "text": "look"}, part])
    cut = run("session", "show", "s", "--store", place).stdout
    assert "look" in cut
    assert "characters; --full shows them)" in cut
    assert "A" * 5000 not in cut
    assert "A" * 5000 in run("session", "show", "s", "--store", place, "--full").stdout


def test_show_at_and_limit(run: Run, path: Path) -> None:
    """--at shows an earlier history, --limit the last messages."""
    with holdfast.connect(str(path)) as store:
        before = store.get_session("trip").revision
        store.clear_session("trip")
    empty = run("session", "show", "trip", "--store", str(path))
    assert empty.exit_code == 0
    assert f"Session trip has no messages in {path}." in empty.stderr
    earlier = run("session", "show", "trip", "--at", str(before), "--store", str(path)).stdout
    assert "Will it rain?" in earlier
    last = run(
        "session", "show", "trip", f"--at={before}", "--limit=1", "--store", str(path)
    ).stdout
    assert "Will it rain?" not in last
    assert "  No\n  rain\n" in last


def test_show_as_json_is_get_messages(run: Run, path: Path) -> None:
    """The JSON of a conversation is what get_messages returns."""
    with holdfast.connect(str(path)) as store:
        wanted = store.get_messages("trip")
    assert (
        json.loads(run("session", "show", "trip", "--json", "--store", str(path)).stdout) == wanted
    )


def test_rename(run: Run, path: Path) -> None:
    """Renaming changes the title, an empty title takes it away, and both say so."""
    result = run("session", "rename", "trip", "Porto", "--store", str(path))
    assert (result.stdout, result.stderr) == ("", "Session trip is now called Porto.\n")
    found = json.loads(run("session", "rename", "trip", "", "--json", "--store", str(path)).stdout)
    assert found["title"] is None
    with holdfast.connect(str(path)) as store:
        assert store.get_session("trip").title is None


def test_delete_shows_what_goes(run: Run, path: Path) -> None:
    """Deleting names title, message count and age first, and says that the bytes are erased."""
    result = run("session", "delete", "trip", "--yes", "--store", str(path))
    assert result.exit_code == 0
    assert result.stderr == (
        f"From {path}, this will go:\n  trip “To Lisbon” (4 messages, changed just now)\n"
        "Deleted trip; its bytes are erased.\n"
    )
    with holdfast.connect(str(path)) as store:
        assert not store.session_exists("trip")
        assert store.session_exists("other")


def test_delete_needs_a_yes(run: Run, path: Path) -> None:
    """Where nobody can be asked, deleting without --yes is wrong use and deletes nothing."""
    result = run("session", "delete", "trip", "--store", str(path))
    assert result.exit_code == 2
    assert "say --yes" in result.stderr
    with holdfast.connect(str(path)) as store:
        assert store.session_exists("trip")


def test_delete_of_what_is_not_there(run: Run, path: Path) -> None:
    """A session that is not there exits with 1, and the others go all the same."""
    result = run("session", "delete", "nope", "other", "other", "--yes", "--store", str(path))
    assert result.exit_code == 1
    assert f"There is no session nope in {path}.\n" in result.stderr
    assert result.stderr.count("Deleted other") == 1
    found = run("session", "delete", "trip", "nope", "--yes", "--json", "--store", str(path))
    assert found.exit_code == 1
    assert json.loads(found.stdout) == {
        "deleted": [
            {"id": "trip", "existed": True, "erasure": "done"},
            {"id": "nope", "existed": False, "erasure": "none"},
        ]
    }


def test_delete_under_a_reader_is_pending(run: Run, path: Path) -> None:
    """While a reader holds the bytes, deleting says that they are erased later."""
    import sqlite3

    with holdfast.connect(str(path)) as store:
        store.add_user_message("trip", "one more")
        reader = sqlite3.connect(path, isolation_level=None)
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM sessions").fetchall()
        result = run("session", "delete", "trip", "--yes", "--store", str(path))
        reader.close()
    assert result.exit_code == 0
    assert "a reader still holds some of the bytes" in result.stderr


def test_tenants_do_not_meet(run: Run, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """--tenant and HOLDFAST_TENANT look at that tenant's sessions only, and say so."""
    asked = run("session", "list", "--tenant", "acme", "--store", str(path))
    assert asked.stderr == f"No sessions in {path} (tenant acme).\n"
    monkeypatch.setenv("HOLDFAST_TENANT", "acme")
    monkeypatch.setenv("HOLDFAST_URL", str(path))
    assert run("session", "list").stderr == asked.stderr
    assert "trip" in run("session", "list", "--tenant", "default").stdout
