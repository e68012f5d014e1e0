"""The conformance suite, for each of our backends and both faces."""

from __future__ import annotations

import inspect
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from holdfast.store.async_store import AsyncSessionStore
from holdfast.store.backend import Backend
from holdfast.store.memory import MemoryBackend
from holdfast.store.sources import Sources
from holdfast.store.sync_store import SessionStore
from holdfast.store.urls import backend_for
from holdfast.testing import conformance


@pytest.fixture(params=["memory", "sqlite", "postgres"])
def open_backend(request: pytest.FixtureRequest, tmp_path: Path) -> conformance.OpenBackend:
    """One backend's data, new for each test."""
    if request.param == "postgres":
        url = request.getfixturevalue("emptied")

    def memory(sources: Sources) -> Backend:
        return MemoryBackend(sources)

    def sqlite(sources: Sources) -> Backend:
        path = str(tmp_path / "conformance.db")
        return backend_for(path, durability="full", timeout_s=30, sources=sources)

    def postgres(sources: Sources) -> Backend:
        return backend_for(url, durability="full", timeout_s=30, sources=sources)

    return {"memory": memory, "sqlite": sqlite, "postgres": postgres}[str(request.param)]


@pytest.fixture(params=conformance.FACES)
def subject(
    request: pytest.FixtureRequest, open_backend: conformance.OpenBackend
) -> Iterator[conformance.Subject]:
    """Stores of one face on one backend."""
    with conformance.Subject(open_backend, request.param) as subject:
        yield subject


def test_suite_is_run_whole() -> None:
    """Every class of the suite is run here: a new one cannot be forgotten."""
    run = [value for name, value in globals().items() if name.startswith("Test")]
    for promises in conformance.SUITE:
        assert any(issubclass(each, promises) for each in run), promises


def test_undeclared_skips_fail() -> None:
    """A skip that no capability accounts for fails; one that is declared skips."""

    class Skipping(conformance.Conformance):
        def test_lazy(self) -> None:
            """Skips for no reason."""
            pytest.skip("not today")

        def test_declared(self, subject: conformance.Subject) -> None:
            """Needs what is missing."""
            subject.need("durable")

    with pytest.raises(pytest.fail.Exception, match="not today"):
        Skipping().test_lazy()
    with (
        conformance.Subject(MemoryBackend, "sync") as subject,
        pytest.raises(pytest.skip.Exception, match="durable"),
    ):
        Skipping().test_declared(subject)


def test_faces_are_alike() -> None:
    """Both faces have the same public methods with the same parameters."""
    for name, method in vars(AsyncSessionStore).items():
        if name.startswith("_") or not callable(method):
            continue
        if name not in {"turn", "follow"}:
            assert inspect.iscoroutinefunction(method), name
        twin = getattr(SessionStore, name)
        assert not inspect.iscoroutinefunction(twin), name
        assert list(inspect.signature(method).parameters) == list(
            inspect.signature(twin).parameters
        )
    assert {n for n in dir(SessionStore) if n[0] != "_"} == {
        n for n in dir(AsyncSessionStore) if n[0] != "_"
    }


def test_testing_imports_nothing() -> None:
    """`holdfast.testing` needs neither pytest nor hypothesis until the suite is asked for."""
    code = (
        "import sys, holdfast.testing\n"
        "found = {'pytest', 'hypothesis'} & {name.partition('.')[0] for name in sys.modules}\n"
        "sys.exit(', '.join(found) or 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_cases_have_names_of_their_own() -> None:
    """Each case of the table is told apart by its id."""
    ids = [case.id for case in conformance.CASES]
    assert len(ids) == len(set(ids))


class TestMessages(conformance.Messages):
    """What is added comes back, exactly and in order."""


class TestPreconditions(conformance.Preconditions):
    """What a write requires, and what it becomes if others wrote first."""


class TestSaving(conformance.Saving):
    """`set_chat_history`, whatever list it is given."""


class TestEditing(conformance.Editing):
    """The right way to redact or compact."""


class TestReading(conformance.Reading):
    """Reads see one committed state, of now or of any revision."""


class TestPoints(conformance.Points):
    """`at=` takes a revision, a label, or -n, and each means one history exactly."""


class TestRewinding(conformance.Rewinding):
    """`rewind_session` begins a generation that is what the history was."""


class TestForking(conformance.Forking):
    """`fork_session` makes a session of its own out of another one's history."""


class TestCompacting(conformance.Compacting):
    """`compact_session`: summary, the last messages of the base, whatever came after it."""


class TestPurging(conformance.Purging):
    """`purge` removes whole generations below the current one, and nothing besides."""


class TestExporting(conformance.Exporting):
    """`import_session` gives back what `export_session` took down."""


class TestTools(conformance.Tools):
    """History is always acceptable to a provider; the log keeps what happened."""


class TestSessions(conformance.Sessions):
    """Creating, describing, renaming and listing."""


class TestDeleting(conformance.Deleting):
    """What goes is gone, and nothing of it fits what comes after."""


class TestSearching(conformance.Searching):
    """A search finds every message of the current histories that fits, and nothing else."""


class TestTenants(conformance.Tenants):
    """The tenant is part of every name."""


class TestBadInput(conformance.BadInput):
    """A typed error with a hint, never a half write, never an error of Python's own."""


class TestSharing(conformance.Sharing):
    """Each write has its own outcome, whatever it was committed together with."""


class TestEndurance(conformance.Endurance):
    """The data is more than the object that opened it."""


class TestTurning(conformance.Turning):
    """A prompt and all that follows from it are one thing that a crash does not take apart."""


class TestRepeating(conformance.Repeating):
    """A prompt that is sent again under its key stands in the history once."""


class TestResuming(conformance.Resuming):
    """A turn that waits is answered by whichever worker, once."""


class TestTotals(conformance.Totals):
    """Token usage is counted once, and whatever becomes of the history, it was used."""


class TestExportingTurns(conformance.ExportingTurns):
    """A session's turns come back with it, and go on where they can."""


class TestTurnPoints(conformance.TurnPoints):
    """`at=` takes a turn's id, and -n counts turns where there are some."""


class TestCarrying(conformance.Carrying):
    """Wherever a rewrite puts a prompt it is the turn's, once, and its answer follows it."""


class TestMoving(conformance.Moving):
    """Every session is in the other store as it was, and once."""
