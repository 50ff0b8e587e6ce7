"""`bus consume`: print records as they come."""

import math
import sys
from collections.abc import Iterator
from typing import Any

import click

from bus.cli.options import directory_option
from bus.cli.output import note, print_json_line
from bus.consumer import Consumer
from bus.dump import as_text
from bus.native.core import ConsumerRecord
from bus.structs import TopicPartition

FORMATS = ("value", "key-value", "json")


@click.command()
@click.argument("topics", nargs=-1, required=True, metavar="TOPIC…")
@click.option("-g", "--group", help="Read as a member of this group, and commit.")
@click.option("--from-beginning", is_flag=True, help="Start at the oldest record.")
@click.option("-p", "--partition", type=int, help="Read this partition only, without a group.")
@click.option("-o", "--offset", type=int, help="Start at this offset of --partition.")
@click.option("-n", "--max-records", type=click.IntRange(min=1), help="Stop after so many.")
@click.option("--timeout-ms", type=click.IntRange(min=0), help="Stop after so long without any.")
@click.option("--format", "form", type=click.Choice(FORMATS), default="value", show_default=True)
@click.option("--json", "as_json", is_flag=True, help="The same as --format json.")
@directory_option
def consume(
    topics: tuple[str, ...],
    group: str | None,
    from_beginning: bool,
    partition: int | None,
    offset: int | None,
    max_records: int | None,
    timeout_ms: int | None,
    form: str,
    as_json: bool,
    directory: str | None,
) -> None:
    """Print the records of the topics, one a line, until Ctrl-C or a limit.

    Exit codes: 0 a limit was reached; 1 the bus said no; 2 wrong usage; 130 Ctrl-C.
    """
    if partition is not None and (group or len(topics) > 1):
        raise click.UsageError("--partition goes with one topic, and without --group")
    if offset is not None and partition is None:
        raise click.UsageError("--offset needs --partition")
    consumer = Consumer(
        bootstrap_servers=directory,
        group_id=group,
        client_id="bus-consume",
        auto_offset_reset="earliest" if from_beginning else "latest",
        enable_auto_commit=group is not None,
        consumer_timeout_ms=math.inf if timeout_ms is None else timeout_ms,
    )
    printed = 0
    with consumer:
        _start(consumer, topics, partition, offset)
        for record in _limited(consumer, max_records):
            print_record(record, "json" if as_json else form)
            printed += 1
    note(f"{printed} records")


def _start(
    consumer: Consumer, topics: tuple[str, ...], partition: int | None, offset: int | None
) -> None:
    if partition is None:
        consumer.subscribe(topics)
        return
    chosen = TopicPartition(topics[0], partition)
    consumer.assign([chosen])
    if offset is not None:
        consumer.seek(chosen, offset)


def _limited(consumer: Consumer, most: int | None) -> Iterator[ConsumerRecord]:
    """Records until there are enough: not one more is taken, so none is committed unseen."""
    for count, record in enumerate(consumer, 1):
        yield record
        if count == most:
            return


def print_record(record: ConsumerRecord, form: str) -> None:
    """One record on stdout: its value, key and value separated by a tab, or JSON on one line."""
    if form == "json":
        print_json_line(as_object(record))
        return
    fields: list[bytes | None] = [record.value]
    if form == "key-value":
        fields.insert(0, record.key)
    sys.stdout.buffer.write(b"\t".join(b"" if field is None else field for field in fields) + b"\n")
    sys.stdout.buffer.flush()


def as_object(record: ConsumerRecord) -> dict[str, Any]:
    """A record as plain values; bytes that are no UTF-8 as NAME_base64."""
    return {
        "topic": record.topic,
        "partition": record.partition,
        "offset": record.offset,
        "timestamp": record.timestamp,
        **as_text("key", record.key),
        **as_text("value", record.value),
        "headers": [{"name": name, **as_text("value", value)} for name, value in record.headers],
    }
