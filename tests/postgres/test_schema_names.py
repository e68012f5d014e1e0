"""Schemas of any name: reserved words, capitals, blanks, and what looks like SQL."""

from __future__ import annotations

from urllib.parse import quote

import psycopg
import pytest

import holdfast
from holdfast.store.postgres.connections import parse_address
from holdfast.store.postgres.diagnosis import diagnose
from holdfast.testing.postgres import Server
from tests.postgres.roles import printed, run, with_user

NAMES = ("select", "My-Schema", "a b", "1st", "x; drop schema public", "é{0}.holdfast.y", "n" * 63)


@pytest.mark.parametrize("name", NAMES)
def test_a_schema_of_any_name(database: str, name: str) -> None:
    """A schema whose name has to be quoted is made, used, looked at and heard of as any other."""
    url = f"{database}?schema={quote(name)}"
    with holdfast.connect(url) as store, holdfast.connect(url) as other:
        store.add_user_message("a", "hello", key="k")
        store.set_chat_history("a", [{"role": "user", "content": "hello again"}])
        assert [found.session_id for found in store.search("again")] == ["a"]
        with other.turn("a", "a question") as turn:
            turn.write("an answer")
        assert store.verify()
        assert store.delete_session("a").existed
    with psycopg.connect(database) as connection:
        schemas = connection.execute(
            "SELECT nspname FROM pg_namespace WHERE nspname !~ '^(pg_|information_schema)'"
        ).fetchall()
    assert sorted(schemas) == sorted([("public",), (name,)])
    findings = diagnose(parse_address(url, 30), "default", "a test")
    assert [each for each in findings if each.level == "problem"] == []
    assert [each.level for each in findings if each.code == "notifications"] == ["ok"]


@pytest.mark.parametrize("name", NAMES)
def test_what_is_printed_for_it(server: Server, database: str, name: str) -> None:
    """What `--print-sql` prints for such a name makes that schema, and grants what a role needs."""
    url = f"{database}?schema={quote(name)}"
    server.create_role("Reader's")
    try:
        run(database, printed(url, role="Reader's"))
        with holdfast.connect(with_user(url, "Reader%27s"), migrate=False) as store:
            store.add_user_message("a", "hello")
            assert store.search("hello")
    finally:
        run(database, """DROP OWNED BY "Reader's" """, """DROP ROLE "Reader's" """)
