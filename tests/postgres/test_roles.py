"""A role that owns nothing: it can do all that a store does, and sees one tenant at a time."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any, NamedTuple

import psycopg
import pytest

import holdfast
from holdfast.errors import ConfigError
from holdfast.store.backend import Backend
from holdfast.store.postgres.migrations import TABLES
from holdfast.store.sources import Sources
from holdfast.store.urls import backend_for
from holdfast.testing import conformance
from holdfast.testing.postgres import Server
from tests.postgres.roles import in_schema, printed, run, with_user

ROLE = "application"
_numbers = itertools.count(1)


class Place(NamedTuple):
    """A schema that its owner made by hand, and its address for the role that uses it."""

    owner: str
    role: str
    schema: str


@pytest.fixture(scope="module")
def role(server: Server) -> Iterator[str]:
    """A role that may log in, and nothing else."""
    server.create_role(ROLE)
    yield ROLE
    server.execute(f"DROP OWNED BY {ROLE}")
    server.execute(f"DROP ROLE {ROLE}")


@pytest.fixture
def place(server: Server, role: str) -> Place:
    """A new schema, with the documented grants for the role."""
    schema = f"roles_{next(_numbers)}"
    owner = in_schema(server.url, schema)
    run(owner, printed(owner, role=role))
    return Place(owner, with_user(owner, role), schema)


@pytest.fixture
def subject(place: Place) -> Iterator[conformance.Subject]:
    """Stores that are used through the role."""

    def open_backend(sources: Sources) -> Backend:
        return backend_for(place.role, durability="full", timeout_s=30, sources=sources)

    with conformance.Subject(open_backend, "sync") as subject:
        yield subject


class TestMessages(conformance.Messages):
    """Adding needs no more than the grants."""


class TestTenants(conformance.Tenants):
    """Nor do stores of several tenants."""


class TestTurning(conformance.Turning):
    """Nor do turns."""


class TestSearching(conformance.Searching):
    """Nor does searching, which fills the index."""


class TestPurging(conformance.Purging):
    """Nor does purging."""


class TestDeleting(conformance.Deleting):
    """Nor does deleting."""


class TestExporting(conformance.Exporting):
    """Nor do exporting and importing."""


@pytest.fixture
def two_tenants(place: Place) -> Place:
    """The same place, with rows of two tenants in every table."""
    for tenant in ("ours", "theirs"):
        with holdfast.connect(place.owner, tenant=tenant) as store:
            for name in ("a", "b"):
                store.add_user_message(name, f"hello from {tenant}", key="k")
            with store.turn("a", "a question") as turn:
                turn.write("an answer")
            assert store.search("hello")
    with psycopg.connect(place.owner.partition("?")[0], autocommit=True) as connection:
        connection.execute(
            f"INSERT INTO {place.schema}.waiters (shard, tenant, session, id, number, expires) "
            f"SELECT shard, tenant, pk, 'w', 1, 0 FROM {place.schema}.sessions".encode()
        )
    return place


def counted(connection: psycopg.Connection[Any], table: str) -> dict[str, int]:
    """How many rows of each tenant a table shows."""
    return dict(
        connection.execute(f"SELECT tenant, count(*) FROM {table} GROUP BY tenant".encode())
    )


def stored(connection: psycopg.Connection[Any], schema: str, table: str) -> str:
    """Name the columns of a table that are not made of others."""
    found = connection.execute(
        "SELECT column_name FROM information_schema.columns "
        "WHERE table_schema = %s AND table_name = %s AND is_generated = 'NEVER'",
        (schema, table),
    )
    return ", ".join(str(row[0]) for row in found)


@pytest.mark.parametrize("table", TABLES)
def test_no_statement_reaches_another_tenant(two_tenants: Place, table: str) -> None:
    """Of each table a role sees, changes and removes the set tenant's rows, whatever it asks."""
    name = f"{two_tenants.schema}.{table}"
    refused = psycopg.errors.InsufficientPrivilege
    with psycopg.connect(two_tenants.owner.partition("?")[0], autocommit=True) as owner:
        before = counted(owner, name)
        assert set(before) == {"ours", "theirs"}
        columns = stored(owner, two_tenants.schema, table)
        with psycopg.connect(two_tenants.role.partition("?")[0], autocommit=True) as role:
            assert counted(role, name) == {}
            assert role.execute(f"UPDATE {name} SET tenant = tenant".encode()).rowcount == 0
            assert role.execute(f"DELETE FROM {name}".encode()).rowcount == 0
            role.execute("SELECT set_config('holdfast.tenant', 'ours', false)")
            assert counted(role, name) == {"ours": before["ours"]}
            with pytest.raises(refused, match="row-level security"):
                role.execute(f"UPDATE {name} SET tenant = 'theirs'".encode())
            changed = role.execute(f"UPDATE {name} SET tenant = tenant".encode()).rowcount
            assert changed == before["ours"]
            assert counted(owner, name) == before
            role.execute(f"CREATE TEMPORARY TABLE taken AS SELECT * FROM {name}".encode())
            role.execute("UPDATE taken SET tenant = 'theirs'")
            assert role.execute(f"DELETE FROM {name}".encode()).rowcount == before["ours"]
            with pytest.raises(refused, match="row-level security"):
                role.execute(f"INSERT INTO {name} ({columns}) SELECT {columns} FROM taken".encode())
        assert counted(owner, name) == {"theirs": before["theirs"]}


def test_the_search_function_keeps_to_the_tenant(two_tenants: Place) -> None:
    """The one function that runs as the tables' owner gives a role the set tenant's rows alone."""
    statement = (
        f"SELECT tenant FROM {two_tenants.schema}.matching_v1('hello')"
        f" UNION SELECT tenant FROM {two_tenants.schema}.matching_v1('theirs')"
    ).encode()
    with psycopg.connect(two_tenants.role.partition("?")[0], autocommit=True) as role:
        assert role.execute(statement).fetchall() == []
        role.execute("SELECT set_config('holdfast.tenant', 'ours', false)")
        assert role.execute(statement).fetchall() == [("ours",)]


def test_every_table_has_the_second_wall(place: Place) -> None:
    """Each table but `store` has a policy for its rows' tenant; none can be forgotten."""
    with psycopg.connect(place.owner.partition("?")[0]) as connection:
        found = connection.execute(
            "SELECT c.relname, c.relrowsecurity, "
            "       EXISTS (SELECT FROM pg_policies p WHERE p.schemaname = n.nspname "
            "                  AND p.tablename = c.relname AND p.qual LIKE '%%holdfast.tenant%%') "
            "FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
            "WHERE n.nspname = %s AND c.relkind IN ('r', 'p')",
            (place.schema,),
        ).fetchall()
    walls = {name: (enabled, has_policy) for name, enabled, has_policy in found}
    assert walls.pop("store") == (False, False)
    assert walls == dict.fromkeys(TABLES, (True, True))


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE {}.store SET value = '99'",
        "ALTER TABLE {}.sessions DISABLE ROW LEVEL SECURITY",
        "CREATE TABLE {}.more (n integer)",
        "DROP TABLE {}.messages",
        "TRUNCATE {}.keys",
        "CREATE FUNCTION {}.more() RETURNS integer LANGUAGE sql AS 'SELECT 1'",
    ],
)
def test_the_role_owns_nothing(place: Place, statement: str) -> None:
    """The granted role can neither change the schema nor say that it has another version."""
    with (
        psycopg.connect(place.role.partition("?")[0]) as role,
        pytest.raises(psycopg.errors.InsufficientPrivilege),
    ):
        role.execute(statement.format(place.schema).encode())


def test_a_role_that_may_not_make_the_schema(server: Server, role: str) -> None:
    """Who may not make the schema is told which command prints what somebody else has to run."""
    url = with_user(in_schema(server.url, "roles_missing"), role)
    with pytest.raises(ConfigError) as caught:
        holdfast.connect(url)
    assert caught.value.code == "not_allowed"
    assert "--print-sql" in caught.value.hint


def test_a_role_without_grants(server: Server, role: str) -> None:
    """Who may not use the schema is told which command prints the grants."""
    owner = in_schema(server.url, f"roles_{next(_numbers)}")
    holdfast.connect(owner).close()
    with pytest.raises(ConfigError) as caught:
        holdfast.connect(with_user(owner, role))
    assert caught.value.code == "not_allowed"
    assert "--role NAME" in caught.value.hint
    run(owner, printed(with_user(owner, role), role=role))
    with holdfast.connect(with_user(owner, role), migrate=False) as store:
        store.add_user_message("a", "hello")
