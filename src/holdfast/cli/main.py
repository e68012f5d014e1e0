"""The command `holdfast`."""

from __future__ import annotations

import click

from holdfast._version import __version__
from holdfast.cli.chat import chat
from holdfast.cli.demo import demo
from holdfast.cli.doctor import doctor
from holdfast.cli.following import follow, interrupt, recover
from holdfast.cli.moving import copy_command
from holdfast.cli.options import global_options
from holdfast.cli.past import fork, label, rewind
from holdfast.cli.program import Program, show_help_alone
from holdfast.cli.purging import purge
from holdfast.cli.search import search
from holdfast.cli.session import session
from holdfast.cli.store import store_group
from holdfast.cli.transfer import export_command, import_command


@click.group(cls=Program)
@click.version_option(__version__, message="holdfast %(version)s")
@global_options
@click.pass_context
def cli(context: click.Context) -> None:
    """Keep the conversations of AI agents and chat bots, and look at them.

    --store, --tenant and --json may stand anywhere on the line. Exit codes: 0 done, 1 a promise or
    a check failed, 2 wrong use, 3 the store cannot be reached, 130 interrupted.

    Example: holdfast session list --store chats.db
    """
    show_help_alone(context)


for command in (search, follow, interrupt, fork, rewind, label):
    session.add_command(command)
for command in (purge, recover, copy_command):
    store_group.add_command(command)
for command in (demo, chat, session, export_command, import_command, store_group, doctor):
    cli.add_command(command)


def main() -> None:
    """Run the command line: the console script."""
    cli.main()
