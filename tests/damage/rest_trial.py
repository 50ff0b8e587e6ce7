"""A fault at rest, and what came of it: nothing may be lost, changed or begun anew in silence."""

import json
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import bus
from bus.broker import Broker
from bus.check import check_directory
from bus.errors import BusError, CorruptRecordError, DirectoryError
from bus.structs import TopicPartition
from tests.broker.rig import status
from tests.damage import rest_share
from tests.damage.forked import end_sessions, forking_brokers, run_bus
from tests.damage.rest_bus import COMMITS, OTHER, RestingBus, end_processes, value_of
from tests.damage.rest_faults import Fault

#: `bus check --repair` says that it is done, or done with losses.
REPAIRED = (0, 3)
#: Far beyond what it takes on a machine that is busy with other things.
_DEADLINE_MS = 30_000
_REPAIR_S = 300


@dataclass
class Outcome:
    """What was seen; `wrong` is what must not be."""

    fault: Fault
    repaired: bool
    found: list[str] = field(default_factory=list)
    refused: str = ""
    read: int = 0
    gaps: list[tuple[TopicPartition, int, int]] = field(default_factory=list)
    commits_lost: int = 0
    #: records that a share group had acknowledged, and that came again
    again: int = 0
    #: files of which a repair said that something in them is lost
    losses: set[str] = field(default_factory=set)
    incidents: int = 0
    wrong: list[str] = field(default_factory=list)

    @property
    def is_whole(self) -> bool:
        """Nothing was missing after all."""
        return not (self.refused or self.gaps or self.commits_lost or self.again)

    @property
    def verdict(self) -> str:
        if self.refused:
            return "refused"
        return "whole" if self.is_whole else "reported"


def run(resting: RestingBus, fault: Fault, *, repair: bool) -> Outcome:
    """Put the bus back, damage it, and use it; with `repair` after `bus check --repair`."""
    outcome = Outcome(fault, repair)
    resting.put_back()
    try:
        fault.inflict(resting)
        outcome.found = _check(resting.path)
        if repair:
            _repair(resting.path, outcome)
        if not outcome.wrong:
            _use(resting, outcome)
        if not (outcome.is_whole or outcome.found):
            outcome.wrong.append("bus check had found nothing")
    finally:
        end_processes(resting.path)
        end_sessions()
        resting.clear()
    return outcome


def _check(path: Path) -> list[str]:
    try:
        return [str(one) for one in check_directory(path)]
    except BusError as error:
        return [f"{type(error).__name__}: {error}"]


def _repair(path: Path, outcome: Outcome) -> None:
    code, said, errors = run_bus(
        path.parent, "check", "--repair", "--json", str(path), timeout_s=_REPAIR_S
    )
    if code not in REPAIRED:
        outcome.wrong.append(f"repair ended with {code}: {said}{errors}")
        return
    answer = json.loads(said)
    outcome.losses = {one["file"] for one in answer["repairs"] if one["lost"]}
    if outcome.found and not answer["repairs"]:
        outcome.wrong.append(f"repair did nothing about {outcome.found}")
    left = _check(path)
    if left:
        outcome.wrong.append(f"after a repair there is {left}; it said {answer['repairs']}")


def _use(resting: RestingBus, outcome: Outcome) -> None:
    try:
        with forking_brokers(), Broker(resting.path):
            _look_for_records(resting, outcome)
            _look_for_commits(resting, outcome)
            rest_share.look_for_work(resting.path, resting.ends[OTHER], outcome)
            _go_on(resting, outcome)
            counters = status(resting.path)["counters"]
            outcome.incidents = counters["metadata_mended"] + counters["damage_found"]
    except (BusError, OSError) as error:
        _refused(resting, outcome, error)
        return
    if outcome.repaired and (left := _check(resting.path)):
        outcome.wrong.append(f"after its use there is {left}")


def _refused(resting: RestingBus, outcome: Outcome, error: Exception) -> None:
    """The broker may say no, if it says which file it is about, and no repair was made."""
    outcome.refused = f"{type(error).__name__}: {error}"
    names = [name.rpartition("/")[2].rpartition(":")[2] for name in outcome.fault.files]
    if outcome.repaired or not isinstance(error, BusError):
        outcome.wrong.append(f"could not be used: {outcome.refused}")
    elif "bus check" in outcome.refused:
        return
    elif not any(name.removesuffix(".copy") in outcome.refused for name in names):
        outcome.wrong.append(f"the file is not named: {outcome.refused}")


# ---------------------------------------------------------------------------------- records


def _look_for_records(resting: RestingBus, outcome: Outcome) -> None:
    with bus.Consumer(bootstrap_servers=resting.path, auto_offset_reset="none") as consumer:
        for partition, end in resting.ends.items():
            consumer.assign([partition])
            consumer.seek(partition, 0)
            missing = set(range(end))
            while missing:
                _take(consumer, partition, missing, outcome)
                if missing and consumer.position(partition) >= end:
                    text = f"{partition}: {sorted(missing)} were skipped in silence"
                    outcome.wrong.append(text)
                    break


def _take(
    consumer: "bus.Consumer[bytes, bytes]",
    partition: TopicPartition,
    missing: set[int],
    outcome: Outcome,
) -> None:
    """One poll; what it says is missing counts as reported."""
    try:
        records = consumer.poll(timeout_ms=_DEADLINE_MS).get(partition, [])
    except CorruptRecordError as error:
        first, behind = consumer.position(partition), getattr(error, "next_offset", -1)
        end = behind if behind > first else max(missing) + 1
        outcome.gaps.append((partition, first, end))
        missing.difference_update(range(first, end))
        consumer.seek(partition, end)
        return
    if not records:
        outcome.wrong.append(f"{partition}: no record, no error; {sorted(missing)} are missing")
        missing.clear()
    for record in records:
        outcome.read += 1
        if record.offset in missing and record.value != value_of(partition, record.offset):
            outcome.wrong.append(f"{partition} at {record.offset}: another value")
        missing.discard(record.offset)


# ---------------------------------------------------------------------------------- commits


def _look_for_commits(resting: RestingBus, outcome: Outcome) -> None:
    for (group, partition), offset in COMMITS.items():
        try:
            with bus.Consumer(bootstrap_servers=resting.path, group_id=group) as consumer:
                found = consumer.committed(partition)
        except BusError:
            outcome.commits_lost += 1
            continue
        if found is None and f"groups/{group}.offsets" in outcome.losses:
            outcome.commits_lost += 1  # the repair has said so
        elif found is None or found > offset:
            outcome.wrong.append(f"group {group} had {offset} in {partition}, now {found}")


# -------------------------------------------------------------------------------- afterwards


def _go_on(resting: RestingBus, outcome: Outcome) -> None:
    """New records get new offsets, and a new topic a new id."""
    with bus.Producer(resting.path) as producer:
        for partition, end in resting.ends.items():
            sent = producer.send(partition.topic, b"after", partition=partition.partition)
            offset = sent.get(timeout=20).offset
            if offset < end:
                outcome.wrong.append(f"{partition}: offset {offset} was given out again")
    with bus.Admin(resting.path) as admin, suppress(DirectoryError):
        admin.create_topics([bus.NewTopic("later")])
    if resting._id("later") in resting.ids:
        outcome.wrong.append("an id was given out again")
