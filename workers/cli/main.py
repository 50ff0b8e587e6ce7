"""`python -m workers`: the group of all commands. A command's module is imported when it is called.

Exit codes: 0 done; 1 work was cut short, workers gave up, or the bus said no; 2 could not be
tried; 130 Ctrl-C.
"""

import importlib
from typing import Any, Final

import click

from bus import __version__
from bus.errors import (
    BusConfigurationError,
    BusError,
    DirectoryError,
    InvalidGroupIdError,
    InvalidTopicError,
    NamespaceError,
    UnsupportedVersionError,
)
from workers.errors import NotPicklableError

#: name: one line for the list of commands. Module workers.cli.NAME holds the command NAME.
COMMANDS: Final = {
    "run": "Call a handler for each record of a topic, in worker processes.",
    "scheduler": "Bring scheduled tasks to their topics when they are due.",
    "status": "Show all workers of this user: what they do and have done.",
    "top": "Watch all workers of this user, live.",
    "why": "Tell what became of one record: each attempt, by whom, and how it ended.",
    "redrive": "Send dead letters again.",
    "replay": "Work on records of any range once more, in their group or here.",
}
#: Errors that say that nothing was tried; all others exit with 1.
_NOT_TRIED: Final = (
    BusConfigurationError,
    DirectoryError,
    InvalidGroupIdError,
    InvalidTopicError,
    NamespaceError,
    NotPicklableError,
    UnsupportedVersionError,
)
REFUSED, NOT_TRIED, INTERRUPTED = 1, 2, 130


class Root(click.Group):
    """Finds commands by name, and turns errors into one line and an exit code."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The commands in the order in which they are explained."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command, imported now; None if there is no such command."""
        if cmd_name not in COMMANDS:
            return None
        command = getattr(importlib.import_module(f"workers.cli.{cmd_name}"), cmd_name)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except BusError as error:
            text = " ".join(str(error).split()) or type(error).__name__
            click.echo(f"workers: {text}", err=True)
            ctx.exit(NOT_TRIED if isinstance(error, _NOT_TRIED) else REFUSED)
        except KeyboardInterrupt:
            click.echo("workers: interrupted", err=True)
            ctx.exit(INTERRUPTED)


@click.group(cls=Root, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="workers")
def main() -> None:
    """Handlers in supervised processes, fed from topics of a bus.

    Exit codes: 0 done; 1 work was cut short or workers gave up; 2 could not be tried; 130 Ctrl-C.
    """
