"""One injection: a bus lives through it, or dies and is taken over, and then everything is read."""

import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import bus
from bus.check import check_directory
from bus.errors import BusError
from bus.structs import TopicPartition
from tests.buses import bus_ids, shared_objects
from tests.calls import life
from tests.calls.injector import (
    BROKER,
    END_S,
    Call,
    Injection,
    Report,
    TracedBroker,
    broker,
)
from tests.calls.life import Ledger, Life

COLD, ADOPTED = "cold start and a whole life", "start over a hot log that is left"
ARGUMENTS = ("--config", json.dumps(life.CONFIG.to_json()))
#: What the bus did.
WENT_ON, KILLED, ENDED = "went on", "killed, taken over", "ended with its cause, taken over"


@dataclass
class Outcome:
    """What was injected, what the bus did, and all that was wrong with it."""

    scenario: str
    injection: Injection
    hit: Call | None = None
    deed: str = ""
    wrong: list[str] = field(default_factory=list)
    #: a deadline was missed, which on a machine that is too busy proves nothing
    is_late: bool = False
    refused: list[str] = field(default_factory=list)
    log: str = ""
    seconds: float = 0.0
    report: Report | None = None


class Template:
    """A bus directory as a reboot leaves it: several partitions and a group, no hot log."""

    def __init__(self, place: Path) -> None:
        self.path = place / "template"
        self.ledger = Ledger()
        with broker(self.path, *ARGUMENTS) as running:
            made = Life(self.path, running, self.ledger)
            life.prepare(made)
        for name in shared_objects(bus_ids(self.path)):  # what a reboot takes along
            _remove(Path("/dev/shm") / name)

    def copy_to(self, path: Path) -> Ledger:
        """A fresh bus, and what it holds."""
        shutil.copytree(self.path, path, ignore=shutil.ignore_patterns("*.sock"))
        return self.ledger.copy()


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


class Trial:
    """Runs injections, one after the other, in one place."""

    def __init__(self, place: Path) -> None:
        self._path = place / "bus"
        self._template = Template(place)
        self._heirs_log = ""

    def run(self, scenario: str, injection: Injection) -> Outcome:
        """One injection on a fresh bus."""
        outcome = Outcome(scenario, injection)
        started = time.monotonic()
        ledger = self._template.copy_to(self._path)
        try:
            self._live(outcome, ledger)
        except (BusError, OSError, AssertionError) as error:
            outcome.wrong.append(f"{type(error).__name__}: {error}")
        finally:
            outcome.wrong += self._clean_up()
            outcome.seconds = time.monotonic() - started
        return outcome

    # ------------------------------------------------------------------------------- living

    def _live(self, outcome: Outcome, ledger: Ledger) -> None:
        with ExitStack() as stack:
            if outcome.scenario == ADOPTED:
                first = stack.enter_context(broker(self._path, *ARGUMENTS))
                before = Life(self._path, first, ledger)
                stack.enter_context(before.producer(1))  # keeps the replicas from ending
                before.live([life.send_to_kept])
                first.kill_broker()
                outcome.wrong += before.stuck + before.refused
            traced = TracedBroker(self._path, outcome.injection, arguments=ARGUMENTS)
            stack.enter_context(traced)
            steps = life.WHOLE if outcome.scenario == COLD else life.BEGINNING
            lived = Life(self._path, traced, ledger)
            if traced.is_ready():
                lived.live(steps)
            outcome.refused, outcome.log = lived.refused, traced.log()
            outcome.wrong += [f"stuck: {text}" for text in lived.stuck]
            self._finish(outcome, traced, ledger)

    def _finish(self, outcome: Outcome, traced: TracedBroker, ledger: Ledger) -> None:
        """Waits for the broker's end, and judges it; replicas may go on to the next broker."""
        limit = time.monotonic() + END_S
        while traced.is_alive and time.monotonic() < limit:
            time.sleep(0.005)
        if traced.is_alive:
            outcome.is_late = True
            outcome.wrong.append("the broker did not stop")
        outcome.wrong += self._take_over(
            outcome, ledger
        )  # replicas that live are adopted, and end with it
        outcome.report = report = traced.wait()
        outcome.log = traced.log() + self._heirs_log
        outcome.wrong += [f"left over: {found}" for found in leftovers(self._path, outcome.log)]
        if report is None:
            outcome.is_late = True
            outcome.wrong.append("processes were left over")
            return
        outcome.hit = report.hit
        outcome.deed = self._judge(outcome, report)

    def _judge(self, outcome: Outcome, report: Report) -> str:
        code = report.ends.get(BROKER)
        if report.hit and believes_a_failed_sync(outcome.injection, report.hit, outcome.log):
            outcome.wrong.append("a durable file that could not be synced was not given up")
        if code == 0:
            return WENT_ON
        if code == -9 and outcome.injection.who == BROKER:
            return KILLED
        error = outcome.injection.error
        if not error or os.strerror(error) not in outcome.log:
            outcome.wrong.append(f"the broker ended with {code} and named no cause")
        return ENDED

    # --------------------------------------------------------------------------- afterwards

    def _take_over(self, outcome: Outcome, ledger: Ledger) -> list[str]:
        """Another broker: it finds every record, takes new ones, and ends well."""
        with broker(self._path, *ARGUMENTS) as heir:
            wrong = [*missing(self._path, ledger), *left_undone(self._path, ledger)]
            after = Life(self._path, heir, ledger)
            after.live([life.send_again, life.stop])
            report = heir.wait()
            outcome.is_late |= report is None
            wrong += [f"after: {text}" for text in after.stuck + after.refused]
            if report is None or set(report.ends.values()) != {0}:
                wrong.append(f"the next broker's processes ended badly: {report}\n{heir.log()}")
            self._heirs_log = heir.log()
        wrong += [f"damage: {damage}" for damage in check_directory(self._path)]
        return wrong

    def _clean_up(self) -> list[str]:
        wrong = []
        for name in shared_objects(bus_ids(self._path)):
            wrong.append(f"left in /dev/shm: {name}")
            _remove(Path("/dev/shm") / name)
        shutil.rmtree(self._path)
        return wrong


def believes_a_failed_sync(injection: Injection, hit: Call, log: str) -> bool:
    """True if a file whose sync failed was taken for durable.

    A replica, or the next one, has to copy its durable file anew.
    """
    if injection.who == BROKER or not injection.error or hit.name not in ("fdatasync", "fsync"):
        return False
    if "/topics/" not in hit.target:  # the syncer: it tells, and the broker writes all of it again
        told = injection.die_after or os.strerror(injection.error) in log
        return "/groups" in hit.target and not told
    named = hit.target.endswith(".log")  # without a name it is removed, if its replica is killed
    return (named or not injection.die_after) and "is copied to a new durable file" not in log


def leftovers(path: Path, log: str) -> Iterator[Path]:
    """Files that belong to nothing, in a bus directory that was stopped.

    Evidence does: a file that could not be read is kept, and its name is told.
    """
    for found in path.rglob("*"):
        if found.name.startswith("~") or found.name.endswith(".tmp"):
            yield found
        if found.name.endswith(".damaged") and f"kept as {found.name}" not in log:
            yield found


def missing(path: Path, ledger: Ledger) -> Iterator[str]:
    """Acknowledged records that are not there, or have other bytes."""
    with bus.Consumer(
        bootstrap_servers=path, auto_offset_reset="earliest", autostart=False
    ) as consumer:
        for partition, expected in ledger.required():
            found = read_partition(consumer, partition)
            for offset, value in expected.items():
                if offset not in found:
                    yield f"{partition.topic}-{partition.partition}: {offset} is lost"
                elif found[offset] != value:
                    yield f"{partition.topic}-{partition.partition}: {offset} has other bytes"


def left_undone(path: Path, ledger: Ledger) -> Iterator[str]:
    """Records that nobody of the share group has done, and that do not come to a new member."""
    wanted = {
        (partition, offset)
        for partition, expected in ledger.required()
        if partition.topic == "kept"
        for offset in expected
    } - ledger.worked
    with life.team_member(path) as member:
        while wanted:
            found = member.poll(timeout_ms=life.ANSWER_S * 1e3)
            if not found:
                yield f"share group: {sorted(wanted)} do not come"
                return
            for partition, records in found.items():
                wanted.difference_update((partition, record.offset) for record in records)


def read_partition(consumer: bus.Consumer, partition: TopicPartition) -> dict[int, bytes]:
    """Every record of a partition. Fails if one below the end does not come."""
    consumer.assign([partition])
    consumer.seek_to_beginning(partition)
    end = consumer.end_offsets([partition])[partition]
    found: dict[int, bytes] = {}
    deadline = time.monotonic() + life.ANSWER_S
    while consumer.position(partition) < end:
        assert time.monotonic() < deadline, f"{partition}: nothing after {max(found, default=-1)}"
        for records in consumer.poll(timeout_ms=200).values():
            found.update((record.offset, bytes(record.value)) for record in records)
    return found
