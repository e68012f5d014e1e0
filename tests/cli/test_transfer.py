"""`holdfast export` and `holdfast import`."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

import holdfast
from holdfast.cli.main import cli
from tests.cli.conftest import Run


@pytest.fixture
def empty(tmp_path: Path) -> Path:
    """A store without sessions, closed."""
    place = tmp_path / "empty.db"
    holdfast.connect(str(place)).close()
    return place


def same(path: Path, other: Path, session: str, twin: str | None = None) -> bool:
    """Whether two stores hold the same session."""
    with holdfast.connect(str(path)) as one, holdfast.connect(str(other)) as two:
        return one.get_messages(session) == two.get_messages(twin or session)


def test_there_and_back(run: Run, path: Path, empty: Path, tmp_path: Path) -> None:
    """Everything that is exported to a file is imported into another store."""
    file = tmp_path / "all.jsonl"
    result = run("export", "--all", "-o", str(file), "--store", str(path))
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr == f"Exported 2 sessions of {path} to {file}.\n"
    result = run("import", str(file), "--store", str(empty))
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr == "Imported trip: 4 messages.\nImported other: 0 messages.\n"
    assert same(path, empty, "trip")
    assert sorted(tmp_path.glob(".all*")) == []


def test_into_a_store_that_is_not_there_yet(run: Run, path: Path, tmp_path: Path) -> None:
    """An import makes the store, and says where; one that cannot be read makes none."""
    file, target = tmp_path / "all.jsonl", tmp_path / "new.db"
    file.write_text("no export")
    assert run("import", str(file), "--store", str(target)).exit_code != 0
    assert not target.exists()
    run("export", "--all", "-o", str(file), "--store", str(path))
    result = run("import", str(file), "--store", str(target))
    assert result.exit_code == 0
    assert f"There was no store at {target} (from --store): made one." in result.stderr
    assert same(path, target, "trip")
    astray = run("import", str(file), "--store", str(tmp_path / "no" / "new.db"))
    assert (astray.exit_code, "no folder" in astray.stderr) == (3, True), astray.stderr


def test_a_folder_is_no_export(run: Run, empty: Path, tmp_path: Path) -> None:
    """A folder that is said to be an export is wrong use."""
    result = run("import", str(tmp_path), "--from", "holdfast", "--store", str(empty))
    assert (result.exit_code, "is a folder" in result.stderr) == (2, True)


def test_through_a_pipe(path: Path, empty: Path) -> None:
    """An export goes to stdout and an import comes from stdin, whatever the terminal's encoding."""
    with holdfast.connect(str(path)) as store:
        store.add_user_message("trip", "naïve 漢字 \u2028\x9b31m")
    command = [sys.executable, "-c", "from holdfast.cli.main import main; main()"]
    environment = {"PYTHONIOENCODING": "ascii", "LANG": "C"}
    exported = subprocess.run(
        [*command, "export", "trip", "--store", str(path)],
        capture_output=True,
        check=True,
        env=environment,
    )
    assert exported.stderr == b""
    assert len(exported.stdout.decode().splitlines()) == 8
    subprocess.run(
        [*command, "import", "-", "--as", "porto", "--store", str(empty)],
        input=exported.stdout,
        check=True,
        env=environment,
    )
    assert same(path, empty, "trip", "porto")


def test_what_to_export(run: Run, path: Path, empty: Path, tmp_path: Path) -> None:
    """Sessions are named, or all of them are meant; what is not there is an error."""
    for line in (["export"], ["export", "trip", "--all"]):
        assert run(*line, "--store", str(path)).exit_code == 2
    file = tmp_path / "x.jsonl"
    file.write_text("before")
    missing = run("export", "trip", "nope", "-o", str(file), "--store", str(path))
    assert missing.exit_code == 1
    assert file.read_text() == "before"
    assert sorted(tmp_path.glob(".x*")) == []
    nothing = run("export", "--all", "--store", str(empty))
    assert (nothing.exit_code, nothing.stdout) == (0, "")
    assert nothing.stderr == f"No sessions in {empty}.\n"
    nowhere = run("export", "trip", "-o", str(tmp_path / "no" / "x"), "--store", str(path))
    assert nowhere.exit_code == 2
    found = run("export", "trip", "trip", "-o", str(file), "--json", "--store", str(path))
    assert json.loads(found.stdout) == {"file": str(file), "exported": ["trip"]}


def test_existing_sessions(run: Run, path: Path, tmp_path: Path) -> None:
    """What is there already is listed, and nothing is imported; --skip-existing goes on."""
    file = str(tmp_path / "all.jsonl")
    run("export", "--all", "-o", file, "--store", str(path))
    with holdfast.connect(str(path)) as store:
        store.delete_session("other")
        store.add_user_message("trip", "later")
    refused = run("import", file, "--store", str(path))
    assert refused.exit_code == 1
    assert f"in {path} there is already 'trip'" in refused.stderr
    assert "--skip-existing" in refused.stderr
    with holdfast.connect(str(path)) as store:
        assert not store.session_exists("other")
    result = run("import", file, "--skip-existing", "--store", str(path))
    assert result.exit_code == 0
    assert result.stderr == (
        f"Imported other: 0 messages.\nSkipped trip, which is in {path} already.\n"
    )
    with holdfast.connect(str(path)) as store:
        assert len(store.get_messages("trip")) == 5
    found = json.loads(
        run("import", file, "--skip-existing", "--json", "--store", str(path)).stdout
    )
    assert found == {"imported": [], "skipped": ["trip", "other"]}


def test_a_session_twice(run: Run, path: Path, empty: Path, tmp_path: Path) -> None:
    """A file that holds a session twice is refused, unless the second may be skipped."""
    text = run("export", "trip", "--store", str(path)).stdout
    file = tmp_path / "twice.jsonl"
    file.write_text(text * 2, encoding="utf-8")
    assert run("import", str(file), "--store", str(empty)).exit_code == 1
    assert run("import", str(file), "--as", "x", "--store", str(empty)).exit_code == 2
    result = run("import", str(file), "--skip-existing", "--store", str(empty))
    assert result.stderr.splitlines()[0] == "Imported trip: 4 messages."


@pytest.mark.parametrize("as_json", [False, True])
def test_damaged_files(run: Run, path: Path, empty: Path, tmp_path: Path, *, as_json: bool) -> None:
    """A file with a damaged end is refused with its line, before anything of it is imported."""
    text = run("export", "--all", "--store", str(path)).stdout
    file = tmp_path / "cut.jsonl"
    options = ["--store", str(empty), *(["--json"] if as_json else [])]
    file.write_text(text[: text.rindex('{"end"')], encoding="utf-8")
    result = run("import", str(file), *options)
    assert result.exit_code == 1
    line = text.count("\n")
    assert f"line {line}: the text ends before" in result.stderr
    file.write_bytes(text.encode()[:-20] + b"\xff")
    assert run("import", str(file), *options).exit_code == 1
    file.write_text("something else")
    assert run("import", str(file), *options).exit_code == 1
    with holdfast.connect(str(empty)) as store:
        assert store.list_sessions() == []
    assert run("import", str(tmp_path / "nope"), *options).exit_code == 2
    file.write_text("\n")
    assert run("import", str(file), *options).exit_code == 0


def test_import_as(path: Path) -> None:
    """--as imports one session under another id, also from stdin."""
    exported = CliRunner().invoke(cli, ["export", "trip", "--store", str(path)]).stdout
    result = CliRunner().invoke(
        cli,
        ["import", "-", "--as", "porto", "--store", str(path)],
        input=io.BytesIO(exported.encode()),
    )
    assert result.stderr == "Imported porto: 4 messages.\n"
    assert same(path, path, "trip", "porto")
