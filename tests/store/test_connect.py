"""What `connect` takes, refuses and promises."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

import holdfast
from holdfast.errors import ConfigError, HoldfastError, InvalidArgument, Unavailable
from holdfast.store import connect as connecting
from holdfast.store.sources import Sources
from holdfast.store.sqlite.connections import Database


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in a folder of its own, with no settings from outside."""
    for name in ("HOLDFAST_URL", "HOLDFAST_TENANT", "XDG_DATA_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("url", "file"),
    [
        ("chats.db", "chats.db"),
        ("sqlite:///chats.db", "chats.db"),
        ("sqlite:///a%20b.db", "a b.db"),
        ("./with:colon.db", "with:colon.db"),
        ("SQLITE:///upper.db", "upper.db"),
        ("größe.db", "größe.db"),
    ],
)
def test_a_url_names_a_file(own_folder: Path, url: str, file: str) -> None:
    """A relative path is relative to where the program was when it connected."""
    with holdfast.connect(url) as store:
        os.chdir("/")
        store.add_user_message("a", "hello")
    assert (own_folder / file).exists()
    assert store.location == str(own_folder / file)


@pytest.mark.parametrize(
    ("statement", "seldom"),
    [
        ("import holdfast", ("msgspec", "threading", "holdfast.errors", "holdfast.store")),
        ("import holdfast.errors", ("msgspec", "threading", "holdfast.store")),
        (
            "import holdfast; holdfast.connect",
            ("sqlite3", "asyncio", "ctypes", "holdfast.store.memory", "holdfast.rules.search"),
        ),
    ],
)
def test_importing_loads_no_more_than_it_must(statement: str, seldom: tuple[str, ...]) -> None:
    """What is not asked for is not loaded: a program may not need it."""
    program = f"{statement}; import sys; print([name for name in {seldom} if name in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"


def test_public_names() -> None:
    """Each is there when it is asked for, as are the public modules; others are an error."""
    program = """
import holdfast
for name in holdfast.__all__:
    assert name in dir(holdfast), name
    value = getattr(holdfast, name)
    assert vars(holdfast)[name] is value, name
try:
    raise holdfast.errors.Conflict("as if")
except holdfast.errors.HoldfastError:
    print(holdfast.agents.Agent is holdfast.Agent, holdfast.testing.__name__)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout == "True holdfast.testing\n"
    with pytest.raises(AttributeError, match="no attribute 'Nobody'"):
        holdfast.Nobody  # noqa: B018 - looking it up is the test


def test_an_absolute_url_names_a_file(own_folder: Path) -> None:
    """Four slashes are an absolute path."""
    with holdfast.connect(f"sqlite:///{own_folder}/abs.db") as store:
        store.add_user_message("a", "hello")
    assert (own_folder / "abs.db").exists()


@pytest.mark.parametrize(
    ("url", "error", "word"),
    [
        ("mysql://host/db", ConfigError, "mysql"),
        ("sqlite:chats.db", ConfigError, "sqlite:///"),
        ("sqlite://chats.db", ConfigError, "sqlite:///"),
        ("sqlite:///", ConfigError, "names no file"),
        ("sqlite:///chats.db?mode=ro", ConfigError, "options"),
        ("file:chats.db", ConfigError, "file"),
        ("redis://localhost", ConfigError, "acknowledges"),
        ("postgresql://127.0.0.1:1/db", Unavailable, "refused; Is the server running"),
        (":memory:", ConfigError, "memory://"),
        ("", ConfigError, "address"),
        ("nul\0.db", ConfigError, "address"),
        ("no/such/folder/chats.db", ConfigError, "folder"),
    ],
)
def test_what_is_not_a_store_is_refused(
    own_folder: Path, url: str, error: type[HoldfastError], word: str
) -> None:
    """A wrong address is an error that says what to write, and never becomes a file's name."""
    with pytest.raises(error, match=word):
        holdfast.connect(url)
    assert list(own_folder.iterdir()) == []


def test_the_default_is_a_file_in_the_users_data_folder(
    own_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without an address the data goes where the system keeps a user's data, for that user only."""
    monkeypatch.setenv("XDG_DATA_HOME", str(own_folder / "data"))
    with holdfast.connect() as store:
        store.add_user_message("a", "hello")
    folder = own_folder / "data" / "holdfast"
    assert (folder / "holdfast.db").exists()
    assert folder.stat().st_mode & 0o077 == 0


def test_the_environment_names_store_and_tenant(
    own_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`HOLDFAST_URL` and `HOLDFAST_TENANT` count unless the call says otherwise."""
    monkeypatch.setenv("HOLDFAST_URL", "named.db")
    monkeypatch.setenv("HOLDFAST_TENANT", "acme")
    with holdfast.connect() as store:
        assert store.tenant == "acme"
        store.add_user_message("a", "hello")
    with holdfast.connect("named.db", tenant="other") as store:
        assert store.list_sessions() == []
    assert (own_folder / "named.db").exists()


@pytest.mark.parametrize(
    "options",
    [{"durability": "none"}, {"timeout": 0}, {"timeout": -1}, {"tenant": ""}, {"tenant": "a\0"}],
)
def test_a_wrong_option_is_refused(options: dict[str, object]) -> None:
    """An option that cannot be right is an error at once, not at the first write."""
    with pytest.raises((ConfigError, InvalidArgument)):
        holdfast.connect("chats.db", **options)  # type: ignore[arg-type]


def test_connecting_lets_go(own_folder: Path) -> None:
    """`connect` leaves no open file behind, so a server may fork after it."""
    store = holdfast.connect("chats.db")
    open_files = [link.resolve() for link in Path("/proc/self/fd").iterdir()]
    assert own_folder.resolve() not in {file.parent for file in open_files}
    store.close()


@pytest.mark.parametrize(("durability", "level"), [("full", 2), ("relaxed", 1)])
def test_durability_is_what_sqlite_gives(own_folder: Path, durability: str, level: int) -> None:
    """The writing connection is in WAL mode, with the level that was asked for, read back."""
    holdfast.connect("chats.db").close()
    database = Database(own_folder / "chats.db", durability, 5)  # type: ignore[arg-type]
    connection = database.writer()
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert connection.execute("PRAGMA synchronous").fetchone() == (level,)
    connection.close()


def test_a_weaker_setting_than_asked_for_is_refused(own_folder: Path) -> None:
    """If SQLite does not give the level, there is no store, rather than a weaker promise."""

    class Deaf(sqlite3.Connection):
        def execute(self, sql: str, parameters: object = (), /) -> sqlite3.Cursor:
            sql = "PRAGMA user_version" if sql.startswith("PRAGMA synchronous = ") else sql
            return super().execute(sql, parameters)  # type: ignore[arg-type]

    def deaf(path: str) -> sqlite3.Connection:
        connection = sqlite3.connect(path, isolation_level=None, factory=Deaf)
        sqlite3.Connection.execute(connection, "PRAGMA synchronous = OFF")
        return connection

    holdfast.connect("chats.db").close()
    with pytest.raises(ConfigError, match="synchronous"):
        Database(own_folder / "chats.db", "full", 5, deaf).writer()


def test_without_wal_the_journal_is_synced_to_the_end(own_folder: Path) -> None:
    """Where a write-ahead log cannot be had, the rollback journal runs with EXTRA."""

    class Stubborn(sqlite3.Connection):
        def execute(self, sql: str, parameters: object = (), /) -> sqlite3.Cursor:
            sql = "PRAGMA journal_mode" if sql == "PRAGMA journal_mode = WAL" else sql
            return super().execute(sql, parameters)  # type: ignore[arg-type]

    def stubborn(path: str) -> sqlite3.Connection:
        return sqlite3.connect(path, isolation_level=None, factory=Stubborn)

    database = Database(own_folder / "chats.db", "full", 5, stubborn)
    database.prepare(Sources(), migrate=True)
    connection = database.writer()
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("delete",)
    assert connection.execute("PRAGMA synchronous").fetchone() == (3,)
    connection.close()


def test_the_async_store_can_be_awaited_or_entered(own_folder: Path) -> None:
    """`await connect_async(...)` and `async with connect_async(...)` give the same store."""

    async def run() -> None:
        store = await holdfast.connect_async("chats.db")
        await store.add_user_message("a", "hello")
        await store.close()
        async with holdfast.connect_async("chats.db") as again:
            assert len(await again.get_chat_history("a")) == 1

    asyncio.run(run())


def test_the_default_store_is_one_for_the_process(
    own_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`get_default_session_store` gives the same store to everyone who asks."""
    monkeypatch.setenv("HOLDFAST_URL", "shared.db")
    monkeypatch.setattr(connecting, "_default", None)
    store = holdfast.get_default_session_store()
    assert store is holdfast.get_default_session_store()
    store.close()


def test_two_stores_of_one_file_tell_each_others_histories(own_folder: Path) -> None:
    """A history read through one connection may be saved through another of the same file."""
    with holdfast.connect("chats.db") as one, holdfast.connect("chats.db") as other:
        one.add_user_message("a", "first")
        history = one.get_chat_history("a")
        one.add_user_message("a", "meanwhile")
        history.append({"role": "user", "content": "second"})
        other.set_chat_history("a", history)
        assert [m["content"] for m in one.get_chat_history("a")] == ["first", "meanwhile", "second"]


def test_a_new_file_that_a_power_failure_tore_is_begun_anew(own_folder: Path) -> None:
    """What was left of a file that was being made has no say in how the next one is laid out."""
    with holdfast.connect("whole.db") as store:
        store.add_user_message("s", "Hello")
    torn = bytearray(Path("whole.db").read_bytes()[:4096])
    torn[64:72] = b"\0\0\0\xcb\x72\xe0\x17\x74"  # the vacuum mode, and whose file it is
    Path("torn.db").write_bytes(torn)
    # A journal that says: the file had no page, so none is to be kept.
    journal = bytes.fromhex("d9d505f920a163d7 00000000 00000001 00000000 00000200 00001000")
    Path("torn.db-journal").write_bytes(journal.ljust(512, b"\0"))
    with holdfast.connect("torn.db") as store:
        store.add_user_message("s", "Hello")
        assert store.verify().problems == []
