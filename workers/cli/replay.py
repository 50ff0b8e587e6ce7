"""`python -m workers replay`: records of any range once more."""

import os
import pdb
import sys
import traceback
from collections.abc import Callable
from datetime import datetime
from functools import partial
from typing import Any

import click

import bus
from workers.cli.output import print_json
from workers.errors import ReplayError
from workers.handler import find
from workers.ranges import Position, Span, spans
from workers.replaying import Only
from workers.replaying import replay as send_again
from workers.replaying_here import replay_here


def _position(text: str) -> Position:
    """An offset, or a time in ISO 8601."""
    if text.isdecimal():
        return int(text)
    try:
        return datetime.fromisoformat(text)
    except ValueError as error:
        raise click.BadParameter(
            f"{text!r} is neither an offset nor a time like 2026-11-26T05:00"
        ) from error


class _Place(click.ParamType[Position]):
    name = "OFFSET|TIME"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Position:
        return _position(value) if isinstance(value, str) else value


@click.command()
@click.argument("topic")
@click.option("-g", "--group", help="The share group; not needed with --local.")
@click.option("-d", "--dir", "directory", envvar="BUS_DIR", help="The bus directory.")
@click.option("--from", "start", type=_Place(), help="The first offset, or a time.")
@click.option("--to", "end", type=_Place(), help="The end, which is not of the range.")
@click.option("-p", "--partition", type=int, help="One partition.  [default: all]")
@click.option("--only", type=click.Choice(["dead", "all"]), default="all", show_default=True)
@click.option("--to-topic", metavar="TOPIC", help="Send to this topic instead.")
@click.option("--beside-others", is_flag=True, help="Other groups of the topic may see them again.")
@click.option("--local", metavar="MODULE:HANDLER", help="Call this here, and write nothing.")
@click.option("--init", metavar="MODULE:NAME", help="With --local: the pool's init.")
@click.option("--pdb", "debugger", is_flag=True, help="With --local: stop at the handler's start.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for machines.")
@click.pass_context
def replay(
    ctx: click.Context,
    /,
    topic: str,
    *,
    group: str | None,
    local: str | None,
    init: str | None,
    debugger: bool,
    **options: Any,
) -> None:
    """Work on records of TOPIC once more that the group has passed.

    They are sent again, to the end of their partitions, with a header that names the record that
    they were, and fresh counts. What the group has not passed yet is left alone. Other groups of
    the topic would see the records again: that is refused without --beside-others.

    With --local nothing is sent: MODULE:HANDLER is called with the records in this process, and
    nothing is written but by the handler itself.

    \b
    Examples:
        python -m workers replay orders -g shop --from 2026-11-26T05:00 --to 2026-11-26T06:00
        python -m workers replay orders -g shop -p 0 --from 40 --to 50 --only dead
        python -m workers replay orders -p 0 --from 42 --to 43 --local shop:handle --pdb

    Exit codes: 0 done; 1 the bus said no, or a handler raised; 2 wrong usage.
    """
    if local is not None:
        ctx.exit(_here(topic, local, init, debugger, **options))
    if group is None:
        raise click.UsageError("Missing option '-g' / '--group'.")
    _in_group(topic, group, **options)


def _in_group(
    topic: str,
    group: str,
    *,
    directory: str | None,
    start: Position | None,
    end: Position | None,
    partition: int | None,
    only: Only,
    to_topic: str | None,
    beside_others: bool,
    as_json: bool,
) -> None:
    done = send_again(
        topic,
        group=group,
        start=start,
        end=end,
        partition=partition,
        only=only,
        to_topic=to_topic,
        beside_others=beside_others,
        bootstrap_servers=directory,
    )
    if as_json:
        print_json({"sent": done.sent, "left": done.left})
    else:
        left = f", still to be worked on: {done.left}" if done.left else ""
        click.echo(f"sent again: {done.sent}{left}", err=True)


def _here(
    topic: str,
    local: str,
    init: str | None,
    debugger: bool,
    *,
    directory: str | None,
    start: Position | None,
    end: Position | None,
    partition: int | None,
    **others: Any,
) -> int:
    """Calls the handler with each record of the range; the exit code."""
    if any(others.get(name) for name in ("to_topic", "beside_others")) or others["only"] == "dead":
        raise click.UsageError("--local takes a range of records, and sends nothing anywhere")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    call = partial(
        replay_here,
        find(local),
        topic,
        init=find(init) if init else None,
        bootstrap_servers=directory,
        call=pdb.runcall if debugger else None,
    )
    with bus.Consumer(bootstrap_servers=directory, client_id="replay") as consumer:
        found = spans(consumer, topic, start, end, partition)
    raised = sum(_span_here(call, span) for span in found)
    return 1 if raised else 0


def _span_here(call: Callable[..., Any], span: Span) -> int:
    """How many records of a span the handler raised for."""
    raised = 0
    for offset in range(span.first, span.end):
        where = f"{span.where.topic}:{span.where.partition}:{offset}"
        try:
            value = call(span.where.partition, offset)
        except ReplayError as error:
            click.echo(f"{where}: {error}", err=True)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the handler's
            raised += 1
            click.echo(f"{where}: {type(error).__name__}: {error}", err=True)
            traceback.print_exception(error)
        else:
            click.echo(f"{where}: returned {value!r}", err=True)
    return raised
