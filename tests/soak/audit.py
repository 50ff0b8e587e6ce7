"""What stands in the log when all is calm: every partition, from its log start to its end."""

import time
from pathlib import Path
from typing import Final

import bus
from bus.errors import UnknownTopicOrPartitionError
from tests.soak.history import FINAL, SAMPLE, Diary
from tests.soak.reading import Run, runs_of

_NEXT_MS: Final = 20_000.0


def read_logs(path: Path, diary: Diary, which: str, prefix: str) -> int:
    """Writes down all records of the topics with that prefix; how many they are."""
    count = 0
    with bus.Consumer(
        bootstrap_servers=path, client_id="auditor", auto_offset_reset="none"
    ) as consumer:
        for topic in sorted(name for name in consumer.topics() if name.startswith(prefix)):
            for number in sorted(consumer.partitions_for_topic(topic) or ()):
                where = bus.TopicPartition(topic, number)
                start, end, runs = _read(consumer, where)
                rows = [run[2:] for run in runs]
                diary.write(FINAL, which, *where, start, end, rows)
                count += sum(len(names) for _, names in rows)
    return count


def _read(consumer: bus.Consumer, where: bus.TopicPartition) -> tuple[int, int, list[Run]]:
    consumer.assign([where])
    start = consumer.beginning_offsets([where])[where]
    end = consumer.end_offsets([where])[where]
    consumer.seek(where, start)
    runs: list[Run] = []
    while (position := consumer.position(where)) < end:
        polled = consumer.poll(timeout_ms=_NEXT_MS).get(where, [])
        moved = consumer.position(where) > position  # a gap holds no record
        assert polled or moved, f"{where} ends at {end}, nothing comes at {position}"
        runs += runs_of(polled)
    return start, end, runs


def unfinished(admin: bus.Admin, prefix: str) -> list[str]:
    """What is not durable yet, and which group has not read everything; empty when all is done."""
    ends, starts = {}, {}
    lazy = []
    for topic in admin.describe_topics():
        if not topic["name"].startswith(prefix):
            continue
        for one in topic["partitions"]:
            where = bus.TopicPartition(topic["name"], one["partition_index"])
            ends[where], starts[where] = one["log_end_offset"], one["log_start_offset"]
            if topic["configs"]["durability"] == "replicated" and (
                one["high_watermark"] < one["log_end_offset"]
            ):
                lazy.append(f"{where} is durable to {one['high_watermark']}")
    for group in [one["group_id"] for one in admin.list_groups()]:
        if group.startswith(prefix):
            committed = admin.list_group_offsets(group)[group]
            for where in [one for one in ends if one in committed or "churn" not in one.topic]:
                place = committed.get(where)
                reached = max(place.offset if place else 0, starts[where])
                if reached < ends[where]:
                    lazy.append(f"{group} has committed {reached} of {ends[where]} in {where}")
    return lazy


def note_commits(admin: bus.Admin, diary: Diary, prefix: str) -> None:
    """The last look at the groups."""
    ends = {
        (topic["name"], one["partition_index"]): one["log_end_offset"]
        for topic in admin.describe_topics()
        for one in topic["partitions"]
    }
    for group in [one["group_id"] for one in admin.list_groups()]:
        if group.startswith(prefix):
            asked = time.monotonic_ns()
            for where, place in admin.list_group_offsets(group)[group].items():
                if where in ends:
                    diary.write(SAMPLE, group, *where, place.offset, ends[where], asked)


def forget(admin: bus.Admin, prefix: str) -> None:
    """Deletes topics and groups of a round that is over."""
    for group in [one["group_id"] for one in admin.list_groups()]:
        if group.startswith(prefix):
            admin.delete_groups([group])
    for topic in admin.list_topics():
        if topic.startswith(prefix):
            try:
                admin.delete_topics([topic])
            except UnknownTopicOrPartitionError:
                continue  # a deletion that a kill had cut off went through after all
