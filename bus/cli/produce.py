"""`bus produce`: every line of files, or of stdin, becomes a record."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import BinaryIO

import click

from bus.cli.options import directory_option
from bus.cli.output import byte_progress, note
from bus.options import Acks
from bus.producer import Producer

_ACKS: dict[str, Acks] = {"0": 0, "1": 1, "all": "all"}
#: Bytes read between two updates of the progress bar.
_REPORT_BYTES = 1 << 16


@click.command()
@click.argument("topic")
@click.argument("files", nargs=-1, type=click.File("rb"), metavar="[FILE…|-]")
@click.option("-k", "--key-separator", metavar="TEXT", help="What stands before it is the key.")
@click.option("-p", "--partition", type=int, help="[default: by key, else sticky]")
@click.option(
    "--acks",
    type=click.Choice(list(_ACKS)),
    default="all",
    show_default=True,
    help="What to wait for at the end.",
)
@directory_option
def produce(
    topic: str,
    files: tuple[BinaryIO, ...],
    key_separator: str | None,
    partition: int | None,
    acks: str,
    directory: str | None,
) -> None:
    """Send each line of the files, or of stdin, to TOPIC, without its line end.

    Exit codes: 0 all records are in the log (with --acks all: on disk); 1 the bus refused one;
    2 wrong usage.
    """
    sources = files or (sys.stdin.buffer,)
    separator = key_separator.encode() if key_separator else None
    sent = 0
    with Producer(directory, acks=_ACKS[acks], client_id="bus-produce") as producer:
        with _progress(sources) as advance:
            for line in _lines(sources, advance):
                key, value = _split(line, separator)
                producer.send(topic, value, key=key, partition=partition)
                sent += 1
        producer.flush()
    note(f"sent {sent} records to {topic}")


def _split(line: bytes, separator: bytes | None) -> tuple[bytes | None, bytes]:
    if separator is None:
        return None, line
    key, found, value = line.partition(separator)
    return (key, value) if found else (None, line)


def _lines(sources: tuple[BinaryIO, ...], advance: Callable[[int], None]) -> Iterator[bytes]:
    unreported = 0
    for source in sources:
        for line in source:
            unreported += len(line)
            if unreported >= _REPORT_BYTES:
                advance(unreported)
                unreported = 0
            yield line.rstrip(b"\r\n")


@contextmanager
def _progress(sources: tuple[BinaryIO, ...]) -> Iterator[Callable[[int], None]]:
    """A bar for files, whose sizes are known; nothing for a terminal or a pipe."""
    sizes = [os.fstat(source.fileno()).st_size for source in sources if _is_file(source)]
    if len(sizes) < len(sources):
        yield lambda _: None
        return
    with byte_progress("sending", sum(sizes)) as progress:
        yield lambda count: progress.advance(progress.task_ids[0], count)


def _is_file(source: BinaryIO) -> bool:
    try:
        return os.path.isfile(source.fileno())
    except OSError:  # a stream that is no file of the system
        return False
