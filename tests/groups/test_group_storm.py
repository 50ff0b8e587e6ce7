"""Many processes join, hand over, leave and are killed at random; no partition has two readers."""

import fcntl
import os
import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bus.assignment import Partition
from bus.errors import CommitFailedError, UnknownMemberIdError
from bus.group import GroupMembership
from tests.groups.rig import GROUP, Rig, settle

PROCESSES = 5
STORM_S = 2.0
#: between two kills
KILL_EVERY_S = 0.03
TWO_READERS = 3
BROKEN = 4


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    made = Rig(tmp_path, {1: 5, 2: 3})
    for topic, count in made.counts.items():
        for number in range(count):
            (tmp_path / f"{topic}-{number}").touch()
    yield made
    os.close(made.hot_fd)


class Reader:
    """Holds a lock for every partition that it reads: a second reader cannot get it."""

    def __init__(self, rig: Rig) -> None:
        # Opened before the client's byte is taken: the kernel closes a dead process's descriptors
        # in the order of their numbers, so these locks go before the proof of death comes.
        self._fds = {
            (topic, number): os.open(rig.path / f"{topic}-{number}", os.O_RDWR)
            for topic, count in rig.counts.items()
            for number in range(count)
        }

    def start(self, partition: Partition) -> None:
        try:
            fcntl.flock(self._fds[partition], fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os._exit(TWO_READERS)

    def stop(self, partition: Partition) -> None:
        fcntl.flock(self._fds[partition], fcntl.LOCK_UN)


def run_member(rig: Rig, slot: int, seed: int) -> None:
    reader = Reader(rig)
    member = GroupMembership(rig.client(slot), GROUP)
    dice = random.Random(seed)
    while True:
        member.join(dice.choice([(1,), (2,), (1, 2)]))
        for _ in range(dice.randrange(1, 60)):
            poll(rig, member, reader)
        for partition in member.owned:
            reader.stop(partition)
        member.leave()


def poll(rig: Rig, member: GroupMembership, reader: Reader) -> None:
    if not member.needs_rebalance:
        member.reap_dead()
        if member.owned:
            member.commit(dict.fromkeys(member.owned, (1, "")))
        return
    revoked = member.plan(rig.count_of)
    for partition in revoked:
        reader.stop(partition)
    member.release(revoked)
    for partition in member.acquire():
        reader.start(partition)


def spawn(rig: Rig, slot: int) -> int:
    pid = os.fork()
    if pid == 0:
        code = BROKEN
        try:
            run_member(rig, slot, seed=slot)
        except (CommitFailedError, UnknownMemberIdError):
            code = TWO_READERS  # nobody may take a living member for dead
        finally:
            os._exit(code)
    return pid


def kill(pid: int) -> int:
    os.kill(pid, signal.SIGKILL)
    return os.waitpid(pid, 0)[1]


def test_a_storm_of_joins_kills_and_leaves_never_gives_a_partition_two_readers(rig):
    dice = random.Random(1)
    slots = iter(range(100, 1000))
    alive = [spawn(rig, next(slots)) for _ in range(PROCESSES)]
    end = time.monotonic() + STORM_S
    endings = []
    while time.monotonic() < end:
        time.sleep(dice.uniform(0, 2 * KILL_EVERY_S))
        endings.append(kill(alive.pop(dice.randrange(PROCESSES))))
        alive.append(spawn(rig, next(slots)))
    endings += [kill(pid) for pid in alive]
    assert {os.WTERMSIG(status) for status in endings} == {signal.SIGKILL}, endings
    assert not [status for status in endings if os.WIFEXITED(status)]
    heir = rig.join(1, 2)
    assert len(settle(rig, heir)[0]) == 8
    assert heir.generation > len(endings)
