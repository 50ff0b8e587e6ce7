"""`bus check`: verify a bus directory, and repair it if asked to."""

from collections.abc import Sequence
from dataclasses import asdict

import click

from bus.check import Damage, bytes_to_check, check_directory
from bus.cli.options import directory_argument, json_option
from bus.cli.output import byte_progress, note, print_json
from bus.errors import BrokerAlreadyRunningError, IllegalStateError
from bus.repair import Outcome, repair_directory

CLEAN, DAMAGED, NOT_TRIED, REPAIRED_WITH_LOSSES = 0, 1, 2, 3


@click.command()
@directory_argument
@json_option
@click.option("--repair", is_flag=True, help="Mend what is damaged; the bus must be at rest.")
@click.pass_context
def check(context: click.Context, directory: str | None, as_json: bool, repair: bool) -> None:
    """Verify every frame, index entry, header, offset and watermark of the bus in DIR.

    Reads only, needs no broker, and may run while the bus does. Exit codes: 0 clean; 1 damage
    found, each named with file, position and what; 2 could not check.

    With --repair, for which no program may use the bus, damage is mended from copies, from the hot
    log, or from what else is known. Records that are lost become a gap, which their readers are
    told of; what is changed or taken away is kept in DIR/damaged. Each thing done is one line. May
    be interrupted and run again. Exit codes: 0 clean, or all is mended; 3 mended, but something is
    lost (the lines with LOST); 1 damage is left; 2 could not be tried, as while the bus is in use.
    """
    if repair:
        context.exit(_repair(directory, as_json))
    with byte_progress("checking", bytes_to_check(directory)) as progress:
        bar = progress.task_ids[0]
        damages = check_directory(directory, progress=lambda count: progress.advance(bar, count))
    if as_json:
        print_json({"clean": not damages, "damages": [asdict(damage) for damage in damages]})
    else:
        _tell(damages)
        note(f"{len(damages)} damages found" if damages else "clean")
    context.exit(DAMAGED if damages else CLEAN)


def _tell(damages: Sequence[Damage]) -> None:
    for damage in damages:
        click.echo(str(damage))


def _repair(directory: str | None, as_json: bool) -> int:
    try:
        with byte_progress("repairing", bytes_to_check(directory)) as progress:
            bar = progress.task_ids[0]
            outcome = repair_directory(
                directory, progress=lambda count: progress.advance(bar, count)
            )
    except (BrokerAlreadyRunningError, IllegalStateError) as error:
        note(f"bus: {error}")
        return NOT_TRIED
    if as_json:
        print_json(
            {
                "clean": not outcome.damages,
                "losses": outcome.has_losses,
                "repairs": [asdict(repair) for repair in outcome.repairs],
                "damages": [asdict(damage) for damage in outcome.damages],
            }
        )
    else:
        _tell_repairs(outcome)
    if outcome.damages:
        return DAMAGED
    return REPAIRED_WITH_LOSSES if outcome.has_losses else CLEAN


def _tell_repairs(outcome: Outcome) -> None:
    for repair in outcome.repairs:
        click.echo(str(repair))
    _tell(outcome.damages)
    left = f"{len(outcome.damages)} damages are left" if outcome.damages else "clean"
    losses = ", with losses" if outcome.has_losses else ""
    note(f"{len(outcome.repairs)} repairs{losses}; {left}")
