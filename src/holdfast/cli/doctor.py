"""`holdfast doctor`: what a look at the store from outside finds, and what to do about it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click
from msgspec.structs import asdict

from holdfast.cli.escaping import visible
from holdfast.cli.options import Settings, as_postgres, backend_of, global_options, settings_of
from holdfast.cli.printing import plural, print_json, print_line, print_rich
from holdfast.cli.program import FAILED

if TYPE_CHECKING:
    from rich.console import RenderableType

    from holdfast.store.diagnosis import Finding

_STYLES = {"ok": "green", "warning": "bold yellow", "problem": "bold red"}


@click.command()
@global_options
@click.pass_context
def doctor(context: click.Context) -> None:
    """Look at the store from outside, and say what to do.

    It writes nothing. It tells which store that is, how durable it really is, its schema, who holds
    its locks, and what is left of what was deleted; of a file the disk's space, of PostgreSQL the
    replicas, the rights of this role, and its connections. Exits with 1 if there is a problem;
    warnings alone exit with 0.

    Example: holdfast doctor --store chats.db
    """
    settings = settings_of(context)
    location, findings = _findings(settings)
    problems = sum(finding.level == "problem" for finding in findings)
    warnings = sum(finding.level == "warning" for finding in findings)
    if settings.as_json:
        print_json(
            {
                "store": location,
                "source": settings.source,
                "ok": not problems,
                "findings": [asdict(finding) for finding in findings],
            }
        )
    else:
        print_rich(_drawn(findings))
        counts = [
            plural(n, noun) for n, noun in ((problems, "problem"), (warnings, "warning")) if n
        ]
        print_line(f"\n{' and '.join(counts).capitalize()}." if counts else "\nAll is well.")
    if problems:
        context.exit(FAILED)


def _findings(settings: Settings) -> tuple[str, list[Finding]]:
    from holdfast.store.connect import chosen_tenant
    from holdfast.store.sqlite.backend import SqliteBackend

    backend = backend_of(settings)
    postgres = as_postgres(backend)
    if postgres is not None:
        from holdfast.store.postgres.diagnosis import diagnose as diagnose_postgres

        tenant = chosen_tenant(settings.tenant)
        return postgres.location, diagnose_postgres(postgres.address, tenant, settings.source)
    if isinstance(backend, SqliteBackend):
        from holdfast.store.sqlite.diagnosis import diagnose

        return backend.location, diagnose(Path(backend.location), settings.source)
    from holdfast.store.diagnosis import diagnose_memory

    return backend.location, diagnose_memory(settings.source)


def _drawn(findings: list[Finding]) -> RenderableType:
    from rich.table import Table
    from rich.text import Text

    drawn = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    drawn.add_column(no_wrap=True)
    drawn.add_column(no_wrap=True)
    drawn.add_column(overflow="fold")
    for finding in findings:
        what = Text(visible(finding.what))
        if finding.hint:
            what.append(f"\n→ {visible(finding.hint)}", style="bold")
        name = finding.code.replace("_", " ")
        drawn.add_row(Text(finding.level, style=_STYLES[finding.level]), name, what)
    return drawn
