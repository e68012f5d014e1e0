"""What a `postgresql://` URL may say, and what is said when it leads nowhere."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from psycopg.conninfo import conninfo_to_dict

import holdfast
from holdfast.cli.main import cli
from holdfast.errors import ConfigError, Unavailable
from holdfast.store.postgres.connections import parse_address
from holdfast.testing.postgres import Server


def told(url: str) -> dict[str, Any]:
    """What libpq is told of a URL."""
    return dict(conninfo_to_dict(parse_address(url, 30).conninfo))


def test_options_of_ours_are_taken_out() -> None:
    """`schema` and `connections` are ours; every other option is libpq's, and so is the rest."""
    url = "postgresql://ada@h:6543/chats?schema=bot&connections=7&sslmode=verify-full"
    address = parse_address(url, 30)
    assert (address.schema, address.connections) == ("bot", 7)
    found = told(url)
    assert {"host": "h", "port": "6543", "user": "ada", "dbname": "chats"}.items() <= found.items()
    assert found["sslmode"] == "verify-full"
    assert "schema" not in found


@pytest.mark.parametrize(
    ("url", "host", "database"),
    [
        ("postgresql:///chats?host=/run/pg", "/run/pg", "chats"),
        ("postgresql:///chats", None, "chats"),
        ("postgresql://", None, None),
        ("postgres://h/chats", "h", "chats"),
        ("PostgreSQL://h/chats", "h", "chats"),
        ("postgresql://a,b:1/chats", "a,b", "chats"),
        ("postgresql://%2Frun%2Fpg/chats", "/run/pg", "chats"),
    ],
)
def test_where_a_server_may_be(url: str, host: str | None, database: str | None) -> None:
    """Hosts, several of them, Unix sockets, and whatever libpq takes where nothing is said."""
    found = told(url)
    assert (found.get("host"), found.get("dbname")) == (host, database)


def test_several_hosts_mean_the_primary() -> None:
    """Of several hosts the one that can be written to is meant, unless the URL says otherwise."""
    assert told("postgresql://a,b/x")["target_session_attrs"] == "read-write"
    assert told("postgresql://a,b/x?target_session_attrs=any")["target_session_attrs"] == "any"
    assert "target_session_attrs" not in told("postgresql://a/x")


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://ada:se%40same@h/chats",
        "postgresql://ada:sesame@h/chats?password=sesame",
        "postgresql://ada:sesame@/chats?host=/run/pg",
        "postgresql://ada:s@sesame@h/chats",
    ],
)
def test_a_password_is_never_shown(url: str) -> None:
    """A store's address is shown without its password, wherever in the URL it stood."""
    shown = parse_address(url, 30).location
    assert "sesame" not in shown
    assert "same@" not in shown
    assert "***" in shown


@pytest.mark.parametrize(
    "url",
    [
        "postgresql:ada:sesame",
        "postgresql://ada:sesame%zz@h/x",
        "postgresql://ada:sesame@h/x?nonsense=1",
        "postgresql://ada:sesame@[h/x",
        'postgresql://ada:sesame@h/x?schema=a"; DROP TABLE b; --',
        "postgresql://ada:sesame@h/x?schema=a'b",
        "postgresql://ada:sesame@h/x?schema=100%25",
        "postgresql://ada:sesame@h/x?schema=a$$b",
        "postgresql://ada:sesame@h/x?schema=a%5Cb",
        "postgresql://ada:sesame@h/x?schema=a%0Ab",
        "postgresql://ada:sesame@h/x?schema=",
        "postgresql://ada:sesame@h/x?schema=pg_mine",
        "postgresql://ada:sesame@h/x?schema=information_schema",
        f"postgresql://ada:sesame@h/x?schema={'%C3%A9' * 32}",
        "postgresql://ada:sesame@h/x?connections=2",
        "postgresql://ada:sesame@h/x?connections=many",
    ],
)
def test_what_is_no_url(url: str) -> None:
    """What cannot be right is wrong use, said with a hint and without the password."""
    with pytest.raises(ConfigError) as caught:
        holdfast.connect(url)
    assert caught.value.code == "config"
    assert caught.value.hint
    assert "sesame" not in str(caught.value)
    assert CliRunner().invoke(cli, ["session", "list", "--store", url]).exit_code == 2


def test_who_cannot_be_reached(server: Server) -> None:
    """A server that is down may be tried again; what is not there has to be made."""
    with pytest.raises(Unavailable) as down:
        holdfast.connect("postgresql://ada@127.0.0.1:1/x")
    assert down.value.code == "unreachable"
    assert down.value.retryable
    for url in (server.url_for("nothing"), server.url_for(user="nobody")):
        with pytest.raises(ConfigError) as caught:
            holdfast.connect(url)
        assert caught.value.code == "cannot_open"
        assert CliRunner().invoke(cli, ["session", "list", "--store", url]).exit_code == 3


WITHOUT_DRIVER = """
import sys
sys.modules["psycopg"] = None
from holdfast.cli.main import cli
sys.argv = ["holdfast", *sys.argv[1:]]
cli.main()
"""


@pytest.mark.parametrize("command", ["session list", "doctor", "store migrate --print-sql"])
def test_without_the_driver(command: str) -> None:
    """Where psycopg is not installed, each command says what to install."""
    line = [sys.executable, "-c", WITHOUT_DRIVER, *command.split(), "--store", "postgresql://h/x"]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "pip install 'holdfast[postgres]'" in done.stderr


def test_a_wrong_password(tmp_path: Path) -> None:
    """A server that asks for passwords refuses a wrong one and a missing one, in words."""
    with Server.start(tmp_path / "server") as server:
        server.execute("CREATE ROLE ada LOGIN PASSWORD 'right'")
        access = server.data / "pg_hba.conf"
        access.write_text("host all ada all scram-sha-256\n" + access.read_text("utf-8"), "utf-8")
        server.execute("SELECT pg_reload_conf()")
        for user in ("ada:wrong", "ada"):
            with pytest.raises(ConfigError) as caught:
                holdfast.connect(server.url_for(user=user))
            assert caught.value.code == "cannot_open"
            assert "password" in caught.value.hint
            assert "wrong" not in str(caught.value)
        with pytest.raises(ConfigError) as known:
            holdfast.connect(server.url_for(user="ada:right"))
        assert known.value.code == "not_allowed"  # the password is right: it may make no schema
