"""What a broker makes whole before it opens anything: the small files of truth.

| lost in both places | made anew from | what that costs |
|---|---|---|
| bus.json (`bus.identity`) | the headers of segments and offset tables | nothing |
| epoch | runtime.json, the names of hot files | nothing |
| next_id | the highest id that anything carries | nothing |
| topic.json | its segments' topic id, its directories | its settings; nothing is deleted by age |
| GROUP.offsets (`bus.offset_mending`) | its copy | the commits since, at most |
| state.json | the segments, commits, hot log | deleted records may be back; offsets jump |

What nothing else knows keeps the broker from starting, with an error that names it. All of this is
noted in `BusDirectory.mended`, counted and logged once the hot directory is there.
"""

import os
from collections.abc import Iterator
from contextlib import suppress
from typing import Final

from bus import identity, traces
from bus.catalog import NEXT_ID_FILE, TOPIC_FILE, Catalog, Topic, topic_path
from bus.config import PARTITIONS_MAX, TopicConfig
from bus.directory import EPOCH_FILE, BusDirectory
from bus.durable import list_segments, read_header
from bus.errors import BusError, CorruptSegmentError, DirectoryError
from bus.offset_mending import mend_groups
from bus.state import (
    OFFSET_STEP,
    CleanEnd,
    PartitionState,
    load_state,
    offset_limit_for,
    state_path,
    store_state,
)
from bus.twofold import Mend

#: How far above all that is known the offsets of a lost state go on, in offsets. What was given out
#: and never became durable is bounded by the hot log and the number of restarts: far less.
LOST_OFFSETS: Final = OFFSET_STEP << 16
#: The same for segment numbers, where no segment is left to tell the last one.
LOST_SEGMENTS: Final = 1 << 32
#: A topic whose settings are lost must not lose records by settings that it never had.
_KEPT: Final = {"retention.ms": "-1", "retention.bytes": "-1"}


def begin(directory: BusDirectory) -> int:
    """Mend everything and raise the epoch, which is returned. The caller holds broker.lock.

    Raises CorruptSegmentError for what is lost for good.
    """
    if (done := identity.mend(directory.fd)) is not None:
        directory.mended.append(Mend(done))
    with suppress(CorruptSegmentError):  # both are lost: raise_epoch makes them anew
        directory.mend_truth(EPOCH_FILE)
    epoch = directory.raise_epoch()
    catalog = Catalog(directory)
    for name in catalog.names():
        _mend_topic(directory, catalog, name)
    _mend_next_id(directory)
    mend_groups(directory, _last_id(directory))
    commits = traces.highest_commits(directory.path)
    for topic in catalog.topics():
        for number in range(topic.partitions):
            commit = commits.get((topic.id, number), 0)
            _mend_state(directory, catalog, topic, number, commit)
    return epoch


def _mend_next_id(directory: BusDirectory) -> None:
    try:
        directory.mend_truth(NEXT_ID_FILE)
        if directory.read_truth(NEXT_ID_FILE) is not None:
            return
        trouble, is_damaged = f"{directory.path / NEXT_ID_FILE} and its copy are missing", False
    except CorruptSegmentError as error:
        trouble, is_damaged = str(error), True
    highest = traces.highest_id(directory.path, directory.known_hot_path())
    if highest or is_damaged:
        directory.write_truth(NEXT_ID_FILE, {"next_id": highest + 1})
        made = f"{trouble}; ids go on from {highest + 1}, above all in use"
        directory.mended.append(Mend(made))


def _last_id(directory: BusDirectory) -> int:
    content = directory.read_truth(NEXT_ID_FILE)
    return 0 if content is None else int(content["next_id"]) - 1


# ----------------------------------------------------------------------------------- topics


def _mend_topic(directory: BusDirectory, catalog: Catalog, name: str) -> None:
    relative = topic_path(name)
    try:
        directory.mend_truth(relative)
        if directory.read_truth(relative) is not None:
            return
        trouble = f"{directory.path / relative} and its copy are missing"
    except CorruptSegmentError as error:
        trouble = str(error)
    topic = _topic_of_segments(directory, name, trouble)
    catalog.rebuild(topic)
    made = (
        f"{trouble}; topic {name!r} was made anew from its segments: id {topic.id},"
        f" {topic.partitions} partitions, settings at their defaults, without any retention; set"
        f" them with: bus topics alter {name}"
    )
    directory.mended.append(Mend(made, lost=True))


def _topic_of_segments(directory: BusDirectory, name: str, trouble: str) -> Topic:
    ids = traces.topic_ids(directory.path, name)
    if len(ids) != 1:
        which = f"segments of several topics ({sorted(ids)})" if ids else "no segment that tells"
        path = directory.topic_path(name)
        raise CorruptSegmentError(
            f"{trouble}; in its directory is {which}: restore {TOPIC_FILE} from a backup, or move"
            f" {path} away, or run: bus check --repair {directory.path}"
        )
    numbers = [int(one) for one in os.listdir(directory.topic_path(name)) if one.isdigit()]
    partitions = min(max(numbers) + 1, PARTITIONS_MAX)
    return Topic(ids.pop(), name, partitions, TopicConfig.from_configs(_KEPT))


# ----------------------------------------------------------------------------------- states


def _mend_state(
    directory: BusDirectory, catalog: Catalog, topic: Topic, number: int, commit: int
) -> None:
    relative = state_path(topic.name, number)
    try:
        with suppress(DirectoryError):  # the partition's directory is gone
            directory.mend_truth(relative)
        if load_state(directory, topic.name, number) is not None:
            return
        trouble = f"{directory.path / relative} and its copy are missing"
        is_new = number >= catalog.opened_partitions(topic.name)
    except CorruptSegmentError as error:
        trouble, is_new = str(error), False
    fd = directory.open_partition(topic.name, number, create=True)
    try:
        bases = list_segments(fd)
        if is_new and not bases:
            return  # its broker died while it made the topic
        state = rebuilt_state(bases, list(_ends(fd, bases)), commit)
    finally:
        os.close(fd)
    store_state(directory, topic.name, number, state)
    made = (
        f"{trouble}; it was made anew from {len(bases)} segments: the log begins at offset"
        f" {state.log_start_offset}; after a stop or reboot offsets go on at {state.offset_limit}"
    )
    directory.mended.append(Mend(made, lost=not bases))


def rebuilt_state(bases: list[int], ends: list[int], commit: int) -> PartitionState:
    """The state of a partition that nothing but its segments and its groups' commits tell.

    Without a segment it is as if the log had ended far behind all that was ever given out: who
    reads from below is told that records are missing.
    """
    known = max([0, commit, *bases, *ends])
    limit = offset_limit_for(known) + LOST_OFFSETS
    if bases:
        return PartitionState(bases[0], limit)
    end = CleanEnd(limit + 1, LOST_SEGMENTS)
    return PartitionState(0, offset_limit_for(end.offset), end)


def _ends(fd: int, bases: list[int]) -> Iterator[int]:
    """What the headers of the segments say, as far as they can be read."""
    for base in bases:
        with suppress(BusError, OSError):
            yield read_header(fd, base).end_offset
