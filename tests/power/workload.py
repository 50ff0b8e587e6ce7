"""A life of a bus, drawn by lot: sends, syncs, rolls, commits, topics made and deleted, stops,
kills. Everything it does to the disk is recorded, with the promises in between."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from unittest.mock import patch

from tests.power.machine import Machine
from tests.power.promises import Key
from tests.power.recorder import Killed, Recorder

#: A replica syncs before so many bytes wait for it: the ring holds four segments of 1 MiB.
BEHIND_BYTES_MAX = 1_500_000
CONFIGS = {"segment_bytes": 1 << 20, "hot_bytes": 4 << 20}


class LateTask:
    """Work that is done when it is waited for, or has been asked for often enough."""

    is_late = False

    def __init__(self, work: Callable[[], None], what: str) -> None:
        self._work: Callable[[], None] | None = work
        self._looks = 0

    @property
    def is_done(self) -> bool:
        self._looks += 1
        if self._looks > 3:
            self.join()
        return self._work is None

    def join(self) -> None:
        """Do it, the first time."""
        work, self._work = self._work, None
        if work is not None:
            work()


@contextmanager
def without_threads() -> Iterator[None]:
    """The replica's sync of a full segment takes its turn like everything else.

    And the broker syncs offsets whatever the clock says of their last change, and what is synced is
    noted at every sync.
    """
    with (
        patch("bus.mirror.MARK_S", 0.0),
        patch("bus.pending_sync.Task", LateTask),
        patch("bus.groups.CLOCK_TICK_NS", 1 << 62),
    ):
        yield


class Life:
    """One bus over several starts. `run` ends with the bus still running."""

    def __init__(self, path: Path, hot: Path, recorder: Recorder, dice: Random) -> None:
        self._path = path
        self._hot = hot
        self._recorder = recorder
        self._dice = dice
        self._behind: dict[Key, int] = {}
        self._made = 0
        self.machine = Machine(path, hot, recorder.mark)

    def run(self, steps: int) -> None:
        """That many steps after a beginning that is always the same."""
        self._start()
        self.machine.create_topic("orders", 2, **CONFIGS)
        actions = (
            (self._send, 40),
            (self._step, 40),
            (self._commit, 12),
            (self._sync_groups, 5),
            (self._roll, 2),
            (self._delete_records, 2),
            (self._make_topic, 3),
            (self._grow_topic, 1),
            (self._delete_topic, 1),
            (self._restart, 1),
            (self._kill, 2),
            (self._kill_and_lose_memory, 1),
        )
        choices, weights = zip(*actions, strict=True)
        for _ in range(steps):
            [action] = self._dice.choices(choices, weights)
            try:
                action()
            except Killed:
                self._go_on(lose_memory=False)

    # -------------------------------------------------------------------------------- records

    def _key(self) -> Key:
        return self._dice.choice(self.machine.partitions())

    def _send(self) -> None:
        key = self._key()
        for _ in range(self._dice.randint(1, 6)):
            size = self._dice.choice((10, 300, 3000, 40_000, 150_000))
            if self._behind.get(key, 0) + size > BEHIND_BYTES_MAX:
                self.machine.drain(key)
                self._behind[key] = 0
            self.machine.send(key, self._dice.randbytes(size))
            self._behind[key] = self._behind.get(key, 0) + size

    def _step(self) -> None:
        key = self._key()
        for _ in range(self._dice.randint(1, 4)):
            if not self.machine.step(key):
                self._behind[key] = 0

    def _roll(self) -> None:
        key = self._key()
        self.machine.drain(key)
        self.machine.roll(key)

    def _delete_records(self) -> None:
        key = self._key()
        log = self.machine.partition(key).log
        start, end = log.log_start_offset, log.log_end_offset
        if start < end:
            self.machine.delete_records(key, self._dice.randint(start + 1, end))

    # --------------------------------------------------------------------------------- groups

    def _commit(self) -> None:
        key = self._key()
        group = self._dice.choice(("billing", "ship ping"))
        log = self.machine.partition(key).log
        before = self.machine.commits.get(group, {}).get(key, 0)
        if log.log_end_offset > before:
            offset = self._dice.randint(before + 1, log.log_end_offset)
            self.machine.commit(group, key, offset)

    def _sync_groups(self) -> None:
        self.machine.sync_groups()

    # --------------------------------------------------------------------------------- topics

    def _make_topic(self) -> None:
        if len(self.machine.partitions()) < 5:
            self._made += 1
            self.machine.create_topic(f"topic-{self._made}", 1, **CONFIGS)

    def _others(self) -> list[str]:
        return [one.name for one in self.machine.inventory.topics() if one.name != "orders"]

    def _grow_topic(self) -> None:
        if others := self._others():
            name = self._dice.choice(others)
            topic = self.machine.inventory.find(name)
            if topic is not None and topic.partitions < 2:
                self.machine.grow_topic(name, topic.partitions + 1)

    def _delete_topic(self) -> None:
        if others := self._others():
            self.machine.delete_topic(self._dice.choice(others))

    # ----------------------------------------------------------------------------------- ends

    def _start(self) -> None:
        self.machine = Machine(self._path, self._hot, self._recorder.mark)
        self.machine.start()
        if not self.machine.adopted:
            for mark in self.machine.found().survivors():
                self._recorder.mark(mark)

    def _restart(self) -> None:
        self.machine.stop()
        self._behind.clear()
        self._start()

    def _kill(self) -> None:
        """Every process dies a few operations from now, wherever that is; the memory stays."""
        self._recorder.kill_at = len(self._recorder.tape) + self._dice.randint(1, 40)

    def _kill_and_lose_memory(self) -> None:
        """The hot log is removed while the machine runs: what is in the page cache stays there."""
        self._go_on(lose_memory=True)

    def _go_on(self, *, lose_memory: bool) -> None:
        self._recorder.kill_at = None
        self.machine.abandon()
        if lose_memory:
            shutil.rmtree(self._hot)
        self._start()
