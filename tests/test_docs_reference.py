"""The reference pages say what the code does: errors, signatures, values, tables, settings."""

from __future__ import annotations

import ast
import inspect
import re
import sqlite3
import typing
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import psycopg
import pytest

import holdfast
from holdfast import errors
from holdfast.model.entry import Entry
from holdfast.model.stats import Stats
from holdfast.model.usage import ModelUsage, UsageTotals
from holdfast.rules.verification import Problem, Verification
from holdfast.store.sqlite.connections import APPLICATION_ID

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "src" / "holdfast"
REFERENCE = ROOT / "docs" / "reference"

VALUES: tuple[type, ...] = (
    holdfast.Commit,
    holdfast.Deletion,
    holdfast.Purge,
    holdfast.SessionInfo,
    holdfast.SearchHit,
    Stats,
    UsageTotals,
    ModelUsage,
    Verification,
    Problem,
    *typing.get_args(Entry),
)
"""What the methods return, beside `History` and `Page`, which are lists with attributes."""


def sections(page: str, level: int) -> dict[str, str]:
    """The headings of one level, and what stands below each, up to the next of any level."""
    text = (REFERENCE / page).read_text("utf-8")
    parts = re.split(r"^(#+) (.+)$", text, flags=re.MULTILINE)
    found = zip(parts[1::3], parts[2::3], parts[3::3], strict=True)
    return {title: body for marks, title, body in found if len(marks) == level}


def first_column(section: str) -> list[str]:
    """What the rows of a section's table name, without the call's parentheses."""
    return re.findall(r"^\| `(\w+)(?:\(\))?` \|", section, flags=re.MULTILINE)


def public(kind: type) -> set[str]:
    """A class's own public attributes and methods."""
    return {name for name in vars(kind) if not name.startswith("_")}


# Errors

ERRORS = {
    name: kind
    for name, kind in vars(errors).items()
    if inspect.isclass(kind) and issubclass(kind, errors.HoldfastError)
}


def codes_given(value: ast.expr | None) -> list[str] | None:
    """The codes that a `code=` argument can be; `None` if it cannot be read off."""
    if isinstance(value, ast.Constant) and isinstance(value.value, str):
        return [value.value]
    if isinstance(value, ast.IfExp):
        one, other = codes_given(value.body), codes_given(value.orelse)
        return None if one is None or other is None else one + other
    return None


def raised(source: str) -> Iterator[tuple[str, str]]:
    """The (class, code) pairs of the errors that some source code makes."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else None
        name = node.func.id if isinstance(node.func, ast.Name) else name
        if name not in ERRORS:
            continue
        given = [keyword.value for keyword in node.keywords if keyword.arg == "code"]
        codes = codes_given(given[0]) if given else [ERRORS[name].default_code]
        assert codes is not None, f"line {node.lineno}: a code that the test cannot read off"
        yield from ((name, code) for code in codes)


def all_raised() -> set[tuple[str, str]]:
    """The (class, code) pairs of the errors that the package makes, outside its test tools."""
    return {
        pair
        for path in SOURCE.rglob("*.py")
        if SOURCE / "testing" not in path.parents
        for pair in raised(path.read_text("utf-8"))
    }


def test_every_error_has_its_section() -> None:
    """The errors page has a section for each class, and for nothing else."""
    assert set(sections("errors.md", 2)) == set(ERRORS)


def test_every_code_is_listed() -> None:
    """Each section lists its class's default code and all codes that the package gives it."""
    pairs = all_raised() | {(name, kind.default_code) for name, kind in ERRORS.items()}
    for name, section in sections("errors.md", 2).items():
        listed = first_column(section)
        assert len(listed) == len(set(listed)), f"{name} lists a code twice"
        assert set(listed) == {code for kind, code in pairs if kind == name}, name


def test_what_is_not_raised_is_said() -> None:
    """The page says "Not raised yet" of exactly those classes that nothing raises."""
    alive = {name for name, _ in all_raised()} | {"HoldfastError"}
    for name, section in sections("errors.md", 2).items():
        assert ("Not raised yet" in section) is (name not in alive), name


def test_codes_are_read_off() -> None:
    """Codes are found in plain arguments, in conditions and by default, and never guessed."""
    found = raised(
        "raise Conflict('x')\n"
        "raise errors.Conflict('x', code='key_reused')\n"
        "Unavailable('x', code='damaged' if bad else 'io_error')\n"
        "Other('x', code='no')\n"
    )
    assert sorted(found) == [
        ("Conflict", "conflict"),
        ("Conflict", "key_reused"),
        ("Unavailable", "damaged"),
        ("Unavailable", "io_error"),
    ]
    with pytest.raises(AssertionError):
        list(raised("Conflict('x', code=computed())"))


# The store

METHODS = {
    name: method
    for name, method in vars(holdfast.SessionStore).items()
    if inspect.isfunction(method) and not name.startswith("_")
}
FUNCTIONS: dict[str, Callable[..., object]] = {
    "connect": holdfast.connect,
    "connect_async": holdfast.connect_async,
    "get_default_session_store": holdfast.get_default_session_store,
    **METHODS,
}


def signature(name: str, function: Callable[..., object]) -> str:
    """How the page writes a function down: without the arguments' types."""
    found = inspect.signature(function)
    plain = [
        parameter.replace(annotation=inspect.Parameter.empty)
        for parameter in found.parameters.values()
        if parameter.name != "self"
    ]
    arguments = found.replace(parameters=plain, return_annotation=inspect.Signature.empty)
    return f"{name}{arguments} -> {found.return_annotation}"


def documented() -> dict[str, str]:
    """The sections of the page that describe a function."""
    return {
        name: section
        for name, section in sections("store.md", 3).items()
        if re.fullmatch(r"[a-z_]+", name)
    }


def test_every_function_has_its_section() -> None:
    """The store's page describes every public function and method, and no other."""
    assert set(documented()) == set(FUNCTIONS)


@pytest.mark.parametrize("name", sorted(FUNCTIONS))
def test_signature_is_the_code_s(name: str) -> None:
    """A section begins with the signature that the code has."""
    assert documented()[name].strip().splitlines()[0] == f"`{signature(name, FUNCTIONS[name])}`"


def test_both_stores_have_these_methods() -> None:
    """The asynchronous store has the same public names as the synchronous one."""
    assert public(holdfast.AsyncSessionStore) == public(holdfast.SessionStore)
    assert public(holdfast.SessionStore) == {*METHODS, "closed", "location", "tenant"}


@pytest.mark.parametrize("kind", VALUES, ids=lambda kind: str(kind.__name__))
def test_values_are_described(kind: type) -> None:
    """The table of a value names each of its attributes, and no other."""
    fields = [getattr(kind, "_fields", ()), getattr(kind, "__dataclass_fields__", ())]
    attributes = public(kind).union(*fields)
    assert set(first_column(sections("store.md", 3)[kind.__name__])) == attributes


@pytest.mark.parametrize("kind", [holdfast.History, holdfast.Page])
def test_lists_are_described(kind: type) -> None:
    """The table of a list names each attribute that it has beyond a list's."""
    listed = set(first_column(sections("store.md", 3)[kind.__name__]))
    assert listed == public(kind)


def test_every_public_name_is_described() -> None:
    """Each name that `import holdfast` offers stands on the page."""
    text = (REFERENCE / "store.md").read_text("utf-8")
    missing = [name for name in holdfast.__all__ if not re.search(rf"\b{name}\b", text)]
    assert missing == ["__version__"]


# The log's format


def test_tables_are_the_file_s(tmp_path: Path) -> None:
    """The log format lists the tables and the columns of a store, in order; FTS5's own it names."""
    with holdfast.connect(str(tmp_path / "chats.db")) as store:
        store.add_user_message("ada", "Hello")
        store.search("hello")
    with closing(sqlite3.connect(tmp_path / "chats.db")) as db:
        found = db.execute(
            "SELECT t.name, c.name FROM sqlite_master t, pragma_table_xinfo(t.name) c"
            " WHERE t.type = 'table' AND t.name NOT LIKE 'sqlite_%' AND c.hidden != 1"
            " AND t.name NOT LIKE 'search~_%' ESCAPE '~' ORDER BY t.name, c.cid"
        ).fetchall()
        (version,) = db.execute("PRAGMA user_version").fetchone()
    tables: dict[str, list[str]] = {}
    for table, column in found:
        tables.setdefault(table, []).append(column)
    listed = {name: first_column(body) for name, body in sections("log-format.md", 3).items()}
    assert listed == tables
    text = (REFERENCE / "log-format.md").read_text("utf-8")
    assert f"0x{APPLICATION_ID:X}" in text
    assert f"of the schema, now {version}." in text


def test_tables_are_the_schema_s(database: str) -> None:
    """Of PostgreSQL's tables it lists the columns that a file has not; the others are the same."""
    holdfast.connect(database).close()
    with psycopg.connect(database) as connection:
        rows = connection.execute(
            "SELECT table_name, column_name FROM information_schema.columns "
            "WHERE table_schema = 'holdfast' ORDER BY table_name, ordinal_position"
        ).fetchall()
    in_file = sections("log-format.md", 3)
    section = sections("log-format.md", 2)["Tables in PostgreSQL"]
    listed = re.findall(r"^\| `(\w+)` \| `(\w+)` \|", section, flags=re.MULTILINE)
    assert len(listed) == len(set(listed))
    both = [
        (table, column)
        for table in {table for table, _ in rows} & set(in_file)
        for column in first_column(in_file[table])
        if (table, column) not in {("messages", "session"), ("activity", "session")}
    ]
    assert not set(both) & set(listed)
    assert set(both) | set(listed) == set(rows)


# Settings


def test_every_environment_variable_is_described() -> None:
    """The operator's page lists each variable of ours that the package reads."""
    code = "".join(path.read_text("utf-8") for path in SOURCE.rglob("*.py"))
    page = (ROOT / "docs" / "how-to" / "operate.md").read_text("utf-8")
    read = set(re.findall(r'environ(?:\.get\(|\[)"(HOLDFAST_\w+)"', code))
    read |= set(re.findall(r'envvar="(HOLDFAST_\w+)"', code))
    assert read
    assert read == set(re.findall(r"^\| `(HOLDFAST_\w+)` \|", page, flags=re.MULTILINE))
