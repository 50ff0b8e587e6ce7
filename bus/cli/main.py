"""`bus`: the group of all commands. A command's module is imported when it is called."""

import importlib
from typing import Any

import click

from bus import __version__
from bus.errors import (
    BusConfigurationError,
    BusError,
    DirectoryError,
    InvalidGroupIdError,
    InvalidPartitionsError,
    InvalidTopicError,
    NamespaceError,
    UnsupportedVersionError,
)

#: name: one line for the list of commands. Module bus.cli.NAME holds the command NAME.
COMMANDS = {
    "serve": "Run the broker of a bus directory.",
    "stop": "End the broker cleanly: all records on disk, nothing left in memory.",
    "status": "Show the broker, its replicas, clients, memory and disk.",
    "topics": "List, create, describe, alter and delete topics.",
    "groups": "List, describe and delete consumer groups; reset their offsets.",
    "produce": "Send lines as records.",
    "consume": "Print records.",
    "check": "Verify every frame, index entry, offset and watermark.",
    "dump": "Show the frames of a segment file.",
    "bench": "Measure throughput and latency on this machine.",
    "demo": "Tokenize the standard library with worker processes, one of them killed.",
    "top": "Watch topics, lag and clients live.",
}

#: Errors that say that nothing was tried; all others exit with 1.
_NOT_TRIED = (
    BusConfigurationError,
    DirectoryError,
    InvalidGroupIdError,
    InvalidPartitionsError,
    InvalidTopicError,
    NamespaceError,
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
        command = getattr(importlib.import_module(f"bus.cli.{cmd_name}"), cmd_name)
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
            click.echo(f"bus: {_one_line(error)}", err=True)
            ctx.exit(NOT_TRIED if isinstance(error, _NOT_TRIED) else REFUSED)
        except KeyboardInterrupt:
            click.echo("bus: interrupted", err=True)
            ctx.exit(INTERRUPTED)


def _one_line(error: BusError) -> str:
    text = " ".join(str(error).split())
    return text or type(error).__name__


@click.group(cls=Root, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="bus")
def main() -> None:
    """A message bus for the processes of one host: Kafka's semantics in shared memory.

    The bus lives in a directory: DIR, --dir, $BUS_DIR or ~/.local/state/bus.

    Exit codes: 0 done; 1 the bus said no, or damage was found; 2 could not be tried; 130 Ctrl-C.
    """
