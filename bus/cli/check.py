"""`bus check`: verify a bus directory."""

from dataclasses import asdict

import click

from bus.check import bytes_to_check, check_directory
from bus.cli.options import directory_argument, json_option
from bus.cli.output import byte_progress, note, print_json


@click.command()
@directory_argument
@json_option
@click.pass_context
def check(context: click.Context, directory: str | None, as_json: bool) -> None:
    """Verify every frame, index entry, header, offset and watermark of the bus in DIR.

    Reads only, needs no broker, and may run while the bus does. Exit codes: 0 clean; 1 damage
    found, each named with file, position and what; 2 could not check.
    """
    with byte_progress("checking", bytes_to_check(directory)) as progress:
        bar = progress.task_ids[0]
        damages = check_directory(directory, progress=lambda count: progress.advance(bar, count))
    if as_json:
        print_json({"clean": not damages, "damages": [asdict(damage) for damage in damages]})
    else:
        for damage in damages:
            click.echo(str(damage))
        note(f"{len(damages)} damages found" if damages else "clean")
    context.exit(1 if damages else 0)
