"""`holdfast doctor` on PostgreSQL: each finding in the state in which it has something to say."""

from __future__ import annotations

import json
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from click.testing import CliRunner

import holdfast
from holdfast.cli.main import cli
from holdfast.store.diagnosis import Finding
from holdfast.store.postgres import diagnosis, preparing
from holdfast.store.postgres.connections import parse_address
from holdfast.store.postgres.health import Limits
from holdfast.testing.postgres import PoolingProxy, Server, programs
from tests.postgres.roles import printed, run, with_user
from tests.started import started

ROLE = "examined"
ALL = [
    "store",
    "server",
    "durability",
    "replicas",
    "schema",
    "rights",
    "tenants",
    "turns",
    "search",
    "vacuum",
    "notifications",
    "connections",
    "timeouts",
    "locks",
    "transactions",
]


@pytest.fixture
def url(database: str) -> str:
    """A store with a session."""
    with holdfast.connect(database) as store:
        store.add_user_message("a", "hello")
    return database


@pytest.fixture
def role_url(server: Server, url: str) -> Iterator[str]:
    """Its address for a role with the documented grants."""
    server.create_role(ROLE)
    run(url, printed(url, role=ROLE))
    yield with_user(url, ROLE)
    run(url, f"DROP OWNED BY {ROLE}", f"DROP ROLE {ROLE}")


def found(url: str, limits: Limits | None = None, tenant: str = "default") -> dict[str, Finding]:
    """The findings by their codes; each that is not ok says what to do."""
    findings = diagnosis.diagnose(parse_address(url, 30), tenant, "a test", limits=limits)
    assert len({finding.code for finding in findings}) == len(findings)
    for finding in findings:
        assert finding.level == "ok" or finding.hint, finding
    return {finding.code: finding for finding in findings}


def bad(findings: dict[str, Finding]) -> dict[str, str]:
    """The levels of what is not ok."""
    return {code: each.level for code, each in findings.items() if each.level != "ok"}


def eventually(condition: Callable[[], bool]) -> None:
    """Wait until something has come true; a test that never sees it fails."""
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.01)


def test_a_sound_store(url: str, role_url: str) -> None:
    """A sound store has every finding, each of them ok, for its owner and for a program's role."""
    findings = found(url)
    assert (bad(findings), list(findings)) == ({}, ALL)
    findings = found(role_url)
    assert (bad(findings), list(findings)) == ({}, ALL)
    assert "schema holdfast, from a test" in findings["store"].what
    assert "keeps the role examined to one tenant" in findings["tenants"].what


def test_a_server_that_does_not_answer() -> None:
    """A server that is down is one finding, and no traceback."""
    findings = found("postgresql://nobody@127.0.0.1:1/nothing")
    assert list(findings) == ["store", "access"]
    assert bad(findings) == {"access": "problem"}


def test_a_database_that_is_not_there(server: Server) -> None:
    """So is a database that nobody made."""
    assert bad(found(server.url_for("nothing"))) == {"access": "problem"}


def test_passwords_are_not_shown() -> None:
    """The address is shown without its password."""
    findings = found("postgresql://ada:sesame@127.0.0.1:1/nothing")
    assert all("sesame" not in each.what + each.hint for each in findings.values())


def test_an_old_server(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that is too old is named with its version."""
    monkeypatch.setattr(preparing, "OLDEST_SERVER", 990000)
    findings = found(url)
    assert bad(findings) == {"server": "problem"}
    assert "works with 99" in findings["server"].what


def test_another_encoding(server: Server) -> None:
    """A database that does not keep UTF-8 is a problem."""
    server.execute("CREATE DATABASE ascii ENCODING 'SQL_ASCII' LOCALE 'C' TEMPLATE template0")
    assert found(server.url_for("ascii"))["server"].level == "problem"
    server.drop_database("ascii")


def test_weak_durability(url: str) -> None:
    """A setting that lets acknowledged writes be lost is a problem, and is named."""
    name = url.rpartition("/")[2]
    run(url, f"ALTER DATABASE {name} SET synchronous_commit = off")
    findings = found(url)
    assert bad(findings) == {"durability": "problem"}
    assert "synchronous_commit=off" in findings["durability"].what


@contextmanager
def receiving(server: Server, folder: Path, name: str) -> Iterator[None]:
    """Something that copies a server's log as a replica does, and says that it is safe there."""
    programs.make_folder(folder)
    address = f"host=127.0.0.1 port={server.port} user=postgres application_name={name}"
    command = programs.command(
        "pg_receivewal", "--synchronous", "--directory", str(folder), "--dbname", address
    )
    process = started(subprocess.Popen(command, env=programs.environment()))
    streaming = "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'"
    eventually(lambda: server.execute(streaming) == [(1,)])
    yield
    process.terminate()
    process.wait()


def test_replicas(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A failover that may lose commits is a warning, commits that wait for nobody are a problem."""
    monkeypatch.setattr(diagnosis, "PATIENCE_S", 1.0)
    with Server.start(tmp_path / "primary") as server:
        holdfast.connect(server.url).close()
        with receiving(server, tmp_path / "copy", "spare"):
            findings = found(server.url)
            assert bad(findings) == {"replicas": "warning"}
            assert "do not wait for spare" in findings["replicas"].what
            blind = found(server.create_role("blind"))["replicas"]
            assert blind.level == "warning"
            assert "may not see" in blind.what
            server.execute("ALTER SYSTEM SET synchronous_standby_names = 'spare'")
            server.execute("SELECT pg_reload_conf()")
            eventually(lambda: found(server.url)["replicas"].level == "ok")
        address = parse_address(server.url, 1.0)
        eventually(lambda: server.execute("SELECT count(*) FROM pg_stat_replication") == [(0,)])
        findings = {each.code: each for each in diagnosis.diagnose(address, "default", "a test")}
        assert findings["replicas"].level == "problem"
        assert "none is connected" in findings["replicas"].what


def test_no_schema(database: str) -> None:
    """A database without the schema is a problem, and the hint says what makes it."""
    findings = found(database)
    assert bad(findings) == {"schema": "problem"}
    assert "holdfast store migrate" in findings["schema"].hint


@pytest.mark.parametrize(
    ("version", "level"), [("0", "warning"), ("99", "problem")], ids=["older", "newer"]
)
def test_another_version(url: str, version: str, level: str) -> None:
    """An older schema is a warning, for it will be migrated; a newer one is a problem."""
    run(url, f"UPDATE holdfast.store SET value = '{version}' WHERE name = 'schema_version'")
    assert bad(found(url)) == {"schema": level}


def test_somebody_elses_schema(database: str) -> None:
    """A schema with another program's tables is a problem."""
    run(database, "CREATE SCHEMA holdfast", "CREATE TABLE holdfast.theirs ()")
    assert bad(found(database)) == {"schema": "problem"}


def test_missing_rights(url: str, role_url: str) -> None:
    """What the role may not do is named, with the command that prints the grants."""
    run(url, f"REVOKE INSERT ON holdfast.keys FROM {ROLE}")
    run(url, f"REVOKE USAGE ON holdfast.ranks FROM {ROLE}")
    findings = found(role_url)
    assert bad(findings) == {"rights": "problem"}
    assert "INSERT on keys, USAGE on ranks" in findings["rights"].what
    assert f"--role {ROLE}" in findings["rights"].hint
    run(url, f"REVOKE ALL ON SCHEMA holdfast FROM {ROLE}")
    assert bad(found(role_url)) == {"rights": "problem"}


def test_no_second_wall(url: str) -> None:
    """Several tenants behind a role that row-level security does not apply to are a warning."""
    with holdfast.connect(url, tenant="other") as store:
        store.add_user_message("b", "hello")
    assert bad(found(url)) == {"tenants": "warning"}


def test_turns_of_dead_workers(url: str) -> None:
    """Open turns whose lease ran out are counted, of the tenant that is looked at."""
    with holdfast.connect(url) as store, store.turn("a", "a question"):
        assert found(url)["turns"].what.startswith("1 turns run")
        run(url, "UPDATE holdfast.sessions SET lease_until = 1")
        findings = found(url)
        assert bad(findings) == {"turns": "warning"}
        assert "recover" in findings["turns"].hint
        assert bad(found(url, tenant="other")) == {}


def test_an_index_that_lacks_much(url: str) -> None:
    """A search index that lacks more than some entries is a warning, until somebody searches."""
    limits = Limits(lacking=0)
    assert bad(found(url, limits)) == {"search": "warning"}
    with holdfast.connect(url) as store:
        store.search("hello")
    assert bad(found(url, limits)) == {}


def test_no_autovacuum(url: str) -> None:
    """A table without autovacuum is a problem: what was deleted stays in its file."""
    run(url, "ALTER TABLE holdfast.messages SET (autovacuum_enabled = off)")
    findings = found(url)
    assert bad(findings) == {"vacuum": "problem"}
    assert "off for messages" in findings["vacuum"].what


def test_late_vacuum(url: str) -> None:
    """A table of which much is dead is a warning, and is named."""
    with holdfast.connect(url) as store:
        store.add_user_message("b", "hello")
        store.delete_session("a")
    eventually(lambda: bad(found(url, Limits(dead_rows=0, dead_share=0))) == {"vacuum": "warning"})
    run(url, *[f"VACUUM holdfast.{table}" for table in ("sessions", "messages", "keys")])
    assert "messages" not in found(url, Limits(dead_rows=0, dead_share=0))["vacuum"].what


def test_notifications_that_do_not_arrive(server: Server, url: str) -> None:
    """Through a proxy that shares connections by transaction nothing else is found, but polling."""
    with PoolingProxy(server.port, size=2) as proxy:
        findings = found(proxy.url_for(url))
    assert bad(findings) == {"notifications": "warning"}
    assert "every 50 ms" in findings["notifications"].what


def test_many_connections(url: str) -> None:
    """More than a share of all connections in use is a warning."""
    with psycopg.connect(url):
        findings = found(url, Limits(connections=0))
    assert bad(findings) == {"connections": "warning"}
    assert " of 97 connections are in use" in findings["connections"].what


def test_who_keeps_others_waiting(url: str) -> None:
    """Who holds a lock that others wait for is named, with what it does and for how long."""
    lock = "SELECT FROM holdfast.sessions FOR UPDATE"
    waits = "SELECT count(*) FROM pg_locks WHERE NOT granted"
    limits = Limits(held_s=0)
    with psycopg.connect(url, application_name="psql") as holder, psycopg.connect(url) as waiter:
        holder.execute(lock)
        thread = threading.Thread(target=lambda: waiter.execute(lock))
        thread.start()
        with psycopg.connect(url, autocommit=True) as looking:
            eventually(lambda: looking.execute(waits).fetchone() == (1,))
        eventually(lambda: "locks" in bad(found(url, limits)))
        findings = found(url, limits)
        pid = holder.info.backend_pid
        holder.rollback()
        thread.join()
    assert bad(findings) == {"locks": "warning"}
    assert f"psql of postgres (process {pid}, idle in transaction" in findings["locks"].what
    assert f"pg_terminate_backend({pid})" in findings["locks"].hint


def test_who_left_a_transaction_open(url: str) -> None:
    """Who does nothing in an open transaction is named: vacuum cannot remove what it may see."""
    with psycopg.connect(url, application_name="psql") as idle:
        idle.execute("SELECT count(*) FROM holdfast.sessions")
        findings = found(url, Limits(idle_s=0))
    assert bad(findings) == {"transactions": "warning"}
    assert "psql of postgres" in findings["transactions"].what


def test_the_command(url: str, database: str) -> None:
    """`holdfast doctor` draws the findings, gives them as JSON, and exits with 1 for a problem."""
    run_line = CliRunner().invoke
    drawn = run_line(cli, ["doctor", "--store", url])
    assert (drawn.exit_code, drawn.stderr) == (0, "")
    assert "All is well." in drawn.stdout
    document = json.loads(run_line(cli, ["doctor", "--store", url, "--json"]).stdout)
    assert document["ok"]
    assert [finding["code"] for finding in document["findings"]] == ALL
    missing = run_line(cli, ["doctor", "--store", f"{database}?schema=none", "--json"])
    assert missing.exit_code == 1
    assert not json.loads(missing.stdout)["ok"]
