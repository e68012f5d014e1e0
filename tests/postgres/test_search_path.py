"""What others have put into `public` is never called, however well it fits."""

from __future__ import annotations

import psycopg
import pytest

import holdfast
from holdfast.store.postgres.connections import parse_address
from holdfast.store.postgres.diagnosis import diagnose
from tests.postgres.roles import printed, run

BODY = "LANGUAGE plpgsql AS $$ BEGIN RAISE 'this is not ours'; END $$"
TRAPS = (
    f"CREATE FUNCTION public.nextval(text) RETURNS bigint {BODY}",
    f"CREATE FUNCTION public.unnest(text[]) RETURNS SETOF text {BODY}",
    f"CREATE FUNCTION public.unnest(bigint[]) RETURNS SETOF bigint {BODY}",
    f"CREATE FUNCTION public.unnest(boolean[]) RETURNS SETOF boolean {BODY}",
    f"CREATE FUNCTION public.array_length(bigint[], integer) RETURNS integer {BODY}",
    f"CREATE FUNCTION public.array_length(text[], integer) RETURNS integer {BODY}",
    f"CREATE FUNCTION public.multiplied(numeric, integer) RETURNS numeric {BODY}",
    "CREATE OPERATOR public.* (LEFTARG=numeric, RIGHTARG=integer, FUNCTION=public.multiplied)",
    f"CREATE FUNCTION public.shifted(bigint, bigint) RETURNS bigint {BODY}",
    "CREATE OPERATOR public.<< (LEFTARG = bigint, RIGHTARG = bigint, FUNCTION = public.shifted)",
    f"CREATE FUNCTION public.row_security_active(text, integer DEFAULT 1) RETURNS boolean {BODY}",
)


@pytest.mark.parametrize("by_hand", [False, True])
def test_no_call_goes_astray(database: str, *, by_hand: bool) -> None:
    """Making a store, writing, turns, searching, copying, `doctor`: all call PostgreSQL's own."""
    run(database, *TRAPS)
    if by_hand:
        run(database, printed(database))
    with holdfast.connect(database) as store:
        store.add_user_message("a", "hello")
        store.set_chat_history("a", [{"role": "user", "content": "hello again"}], key="k")
        with store.turn("a", "a question") as turn:
            turn.write("an answer")
        assert store.search("again")
        assert store.list_sessions(user_id="none") == []
        assert store.stats().sessions == 1
        assert store.verify()
        store.rewind_session("a", -1)
        assert store.delete_session("a").existed
    findings = diagnose(parse_address(database, 30), "default", "a test")
    assert [each for each in findings if each.level == "problem"] == []


def test_every_function_looks_nowhere_else(database: str) -> None:
    """Each function of the schema says where it looks, those of later migrations included."""
    holdfast.connect(database).close()
    with psycopg.connect(database) as connection:
        found = connection.execute(
            "SELECT proname, 'search_path=pg_catalog, pg_temp' = ANY (proconfig) "
            "FROM pg_proc WHERE pronamespace = 'holdfast'::regnamespace"
        ).fetchall()
    assert found
    assert all(fixed for _, fixed in found), found
