"""A group member is killed: when does another get the next record of its partition?"""

import os
import signal
import time
from multiprocessing.connection import Connection, Pipe

import bus
from benchmarks.handles import topic
from benchmarks.processes import forked
from benchmarks.stage import Stage
from benchmarks.targets import Target, median

NAME = "failover"
TITLE = "SIGKILL of a group member, then a record of its partition by another member"
PARTITIONS = 2
MEASURE = "group failover"
#: A record goes into every partition this often.
INTERVAL_S = 0.001
DEADLINE_S = 30.0
#: The group has settled when both members read one partition each for this many intervals.
SETTLED_ROUNDS = 50

TARGETS = (Target("group failover, ms", median(MEASURE), 100, True),)


def run(stage: Stage) -> None:
    """Two members, one partition each; the one that is killed takes no leave."""
    for _ in stage.in_turns(NAME):
        with topic(stage.path, partitions=PARTITIONS, durability="memory", overflow="drop") as name:
            stage.results.add(MEASURE, "bus", "ms", _one_failover(stage, name))


def _one_failover(stage: Stage, name: str) -> float:
    """Milliseconds from the kill until the survivor has a record of the lost partition."""
    victim_end, from_victim = Pipe()
    survivor_end, from_survivor = Pipe()
    with (
        forked(lambda: _consume(stage, name, victim_end)) as victim,
        forked(lambda: _consume(stage, name, survivor_end)),
        bus.Producer(stage.path, acks=1) as producer,
    ):
        lost = _wait_for_one_each(producer, name, from_victim, from_survivor)
        start = time.monotonic()
        os.kill(victim, signal.SIGKILL)
        while lost not in _seen(from_survivor):
            _feed(producer, name, start)
        return (time.monotonic() - start) * 1000


def _wait_for_one_each(
    producer: bus.Producer, name: str, from_victim: Connection, from_survivor: Connection
) -> int:
    """Feeds both until each reads one partition only; returns the victim's."""
    start = time.monotonic()
    while True:
        for _ in range(SETTLED_ROUNDS):
            _feed(producer, name, start)
        victims, survivors = _seen(from_victim), _seen(from_survivor)
        if len(victims) == len(survivors) == 1 and victims != survivors:
            return victims.pop()


def _feed(producer: bus.Producer, name: str, start: float) -> None:
    """One record into every partition, then a short pause."""
    if time.monotonic() - start > DEADLINE_S:
        raise AssertionError(f"the group did not settle within {DEADLINE_S} s")
    for partition in range(PARTITIONS):
        producer.send(name, b"x", partition=partition)
    time.sleep(INTERVAL_S)


def _seen(channel: Connection) -> set[int]:
    """The partitions of the records that were reported since the last look."""
    seen = set()
    while channel.poll(0):
        seen.add(channel.recv())
    return seen


def _consume(stage: Stage, name: str, channel: Connection) -> None:
    """Reports the partition of every record that comes."""
    group = f"failover-{name}"
    with bus.Consumer(name, bootstrap_servers=stage.path, group_id=group) as consumer:
        for record in consumer:
            channel.send(record.partition)
