"""`python -m workers redrive`: send dead letters again."""

import sys

import click

from workers.cli.output import print_json
from workers.redriving import DeadLetter
from workers.redriving import redrive as send_again


@click.command()
@click.argument("topic", metavar="DLQ-TOPIC")
@click.option("-d", "--dir", "directory", envvar="BUS_DIR", help="The bus directory.")
@click.option("--reason", help="Only letters whose reason contains this text.")
@click.option("--exception", help="Only letters whose exception's type contains this text.")
@click.option("--to", "to_topic", metavar="TOPIC", help="Send to this topic instead.")
@click.option("--limit", type=int, help="Look at so many letters at most.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for machines.")
def redrive(
    topic: str,
    directory: str | None,
    reason: str | None,
    exception: str | None,
    to_topic: str | None,
    limit: int | None,
    as_json: bool,
) -> None:
    """Send the records of DLQ-TOPIC again, to the topics that they came from.

    Each letter is looked at once: the next call goes on behind it. What is not sent, because of
    --reason or --exception, is passed over for good.

    Exit codes: 0 done; 1 the bus said no, or a record there is no dead letter; 2 wrong usage.
    """

    def wanted(letter: DeadLetter) -> bool:
        told = letter.told
        return (reason or "") in told.get("reason", "") and (exception or "") in told.get(
            "exception.type", ""
        )

    done = send_again(
        topic,
        bootstrap_servers=directory,
        only=wanted,
        limit=limit,
        to_topic=to_topic,
        progress=_progress if sys.stderr.isatty() else None,
    )
    if as_json:
        print_json({"sent": done.sent, "left": done.left})
    else:
        click.echo(f"sent again: {done.sent}, left: {done.left}", err=True)


def _progress(count: int) -> None:
    click.echo(f"\r{count} letters", nl=False, err=True)
