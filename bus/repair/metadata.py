"""Identity, topics and groups that a broker refuses, because nothing makes them whole again."""

import os
from contextlib import closing, suppress
from pathlib import Path

from bus import files, identity, traces, twofold
from bus.catalog import Catalog, topic_path
from bus.directory import BusDirectory, offsets_name, timestamp
from bus.errors import CorruptSegmentError
from bus.offset_copies import OffsetCopies, copy_name
from bus.offset_mending import table_files
from bus.offsets import OffsetTable, create_offsets_file
from bus.repair.aside import Aside
from bus.repair.done import Log


def open_identity(path: Path, log: Log, aside: Aside) -> BusDirectory:
    """The bus, with a new id if its own is lost and no file is left that carries it."""
    try:
        return BusDirectory.create(path)
    except CorruptSegmentError as error:
        fd = files.open_directory(path)
        try:
            if traces.bus_ids(path):
                raise
            for name in (identity.BUS_FILE, identity.BUS_FILE + twofold.COPY_SUFFIX):
                if (path / name).exists():
                    log.add(name, str(error), kept=aside.move(name))
            identity.renew(fd, timestamp())
        finally:
            os.close(fd)
        log.add(identity.BUS_FILE, "made anew with another id; no file carries the old one")
        return BusDirectory.create(path)


def clear_topics(directory: BusDirectory, log: Log, aside: Aside) -> None:
    """Move away the topics of which nothing tells the id: with files, but without a segment."""
    for name in Catalog(directory).names():
        try:
            if directory.read_truth(topic_path(name)) is not None:
                continue
            trouble = "topic.json and its copy are missing"
        except CorruptSegmentError as error:
            trouble = str(error)
        if len(traces.topic_ids(directory.path, name)) != 1:
            kept = aside.move(f"topics/{name}")
            log.add(f"topics/{name}", f"{trouble}; no segment tells its id", lost=True, kept=kept)


def renew_groups(directory: BusDirectory, log: Log, aside: Aside) -> None:
    """Begin groups anew that cannot be told, and give up commits that are lost."""
    groups_fd = directory.open_groups()
    try:
        for name, trouble in directory.refused.items():
            _begin_anew(directory, groups_fd, name, trouble, log, aside)
        directory.refused.clear()
        copies = OffsetCopies(directory)
        for file in sorted(table_files(groups_fd)):
            _give_up(directory, file, copies, log, aside)
    finally:
        os.close(groups_fd)


def _begin_anew(
    directory: BusDirectory, groups_fd: int, name: str, trouble: str, log: Log, aside: Aside
) -> None:
    file = offsets_name(name)
    kept = ""
    for one in (copy_name(file), file):
        with suppress(FileNotFoundError):
            kept = aside.move(f"groups/{one}")
    group_id = Catalog(directory).next_id()
    create_offsets_file(groups_fd, name, bus_id=directory.bus_id, group_id=group_id)
    what = f"{trouble.split('; which')[0]}; the group begins anew, without a commit"
    log.add(f"groups/{file}", what, lost=True, kept=kept)


def _give_up(
    directory: BusDirectory,
    file: str,
    copies: OffsetCopies,
    log: Log,
    aside: Aside,
) -> None:
    """Free damaged entries, and bring the copy up to date."""
    path = directory.groups_path / file
    with closing(OffsetTable.open_path(path, writable=True)) as table:
        damaged = table.damaged()
        if damaged:
            kept = aside.copy(f"groups/{file}")
            for number in damaged:
                table.clear(number)
            table.sync()
            what = f"{len(damaged)} commits are damaged in both copies, and given up"
            log.add(f"groups/{file}", what, lost=True, kept=kept)
        copies.keep(table, at_once=True)
