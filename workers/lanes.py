"""The way of a scheduled task through the lanes of the topic `workers.schedule`: without I/O.

A lane is a partition in which every record waits for the same time, so records become ready in the
order in which they were written: a lane is read from its head, and what waits in it costs no
memory. A task goes into the lane with the longest wait that is not too long, and after it into a
shorter one, until it is due:

    due in 9 s    lane 3, 5.12 s ─► lane 2, 0.64 s, six times ─► lane 0, 10 ms, … ─► its topic

It is never early, and late by the shortest wait (10 ms) and the time for a few writes to the disk.

**Clocks.** A task with a delay is due by CLOCK_BOOTTIME, which nobody can set and which counts the
time of a suspended machine; after a reboot, which begins that clock anew, by the wall clock. A
task for a moment (`at`) is due by the wall clock. When that is set, all that waits is looked at
anew, once: a lane's wait says nothing then.
"""

import json
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Final, Self

from workers.errors import ScheduleError

TOPIC: Final = "workers.schedule"
#: Waits of the lanes, in ns: 10 ms, 80 ms, …, 15 days. Longer ones go through the last lane again.
WAITS_NS: Final = tuple(10_000_000 * 8**lane for lane in range(10))
LANES: Final = len(WAITS_NS)
#: The header that says what is to become of a task, and the one that says where it came from.
PLAN: Final = "schedule.plan"
FROM: Final = "schedule.from"
#: A wall clock that moves by more than this against CLOCK_BOOTTIME was set.
STEP_NS: Final = 500_000_000
#: The furthest future, in ns since 1970.
_NS: Final = 1_000_000_000
AT_MAX_NS: Final = 1 << 62

Header = tuple[str, bytes | None]


@lru_cache(maxsize=1)
def boot_id() -> str:
    """Tells one boot from another."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


@dataclass(frozen=True, slots=True)
class Now:
    """A moment, by both clocks."""

    wall_ns: int
    boot_ns: int
    boot: str

    @classmethod
    def read(cls) -> Self:
        """This moment."""
        return cls(time.time_ns(), time.clock_gettime_ns(time.CLOCK_BOOTTIME), boot_id())

    @property
    def offset_ns(self) -> int:
        """What the wall clock shows when this boot begins: another value after it was set."""
        return self.wall_ns - self.boot_ns


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to become of a task; it travels in a header.

    topic, partition: where it goes. wall_ns: when. boot, boot_ns: when, by the clock of that boot;
    boot_ns 0: by the wall clock alone. until_ns: its wait in this lane ends, by that boot's clock.
    """

    topic: str
    partition: int | None
    wall_ns: int
    boot: str
    boot_ns: int
    until_ns: int = 0

    @classmethod
    def after(cls, topic: str, partition: int | None, delay_ns: int, now: Now) -> Self:
        """A task with a delay."""
        return cls(topic, partition, now.wall_ns + delay_ns, now.boot, now.boot_ns + delay_ns)

    @classmethod
    def at(cls, topic: str, partition: int | None, wall_ns: int, now: Now) -> Self:
        """A task for a moment."""
        return cls(topic, partition, wall_ns, now.boot, 0)

    def left_ns(self, now: Now) -> int:
        """The time until it is due; 0 or less: it is."""
        if self.boot_ns and self.boot == now.boot:
            return self.boot_ns - now.boot_ns
        return self.wall_ns - now.wall_ns

    def wait_ns(self, now: Now) -> int:
        """How long it still waits in its lane; 0 or less: it is to be looked at."""
        return self.until_ns - now.boot_ns if self.boot == now.boot else 0

    def in_lane(self, lane: int, now: Now) -> "Plan":
        """The same, as it is written into a lane."""
        wait_ns = min(WAITS_NS[lane], max(0, self.left_ns(now)))
        boot_ns = self.boot_ns
        if boot_ns and self.boot != now.boot:  # from here on by the clock of this boot
            boot_ns = now.boot_ns + self.left_ns(now)
        return replace(self, boot=now.boot, boot_ns=boot_ns, until_ns=now.boot_ns + wait_ns)

    def to_bytes(self) -> bytes:
        """For the header."""
        return json.dumps(asdict(self), separators=(",", ":")).encode()

    @classmethod
    def of(cls, headers: Iterable[Header]) -> Self:
        """The plan of a record. Raises ScheduleError if it has none."""
        for name, value in headers:
            if name == PLAN and value is not None:
                try:
                    return cls(**json.loads(value))
                except (ValueError, TypeError) as error:
                    raise ScheduleError(f"its header {PLAN} says nothing: {error}") from error
        raise ScheduleError(f"it has no header {PLAN}; use workers.schedule()")


def lane_of(left_ns: int) -> int:
    """The lane for a task that is due in so long: the longest wait that is not too long."""
    lane = 0
    while lane + 1 < LANES and WAITS_NS[lane + 1] <= left_ns:
        lane += 1
    return lane


def own_headers(headers: Sequence[Header]) -> list[Header]:
    """The headers that the task came with."""
    return [header for header in headers if header[0] not in (PLAN, FROM)]


def source_header(lane: int, offset: int) -> Header:
    """Tells, in a task's next place, which record of which lane it was."""
    return FROM, b"%d:%d" % (lane, offset)


def source_of(headers: Iterable[Header]) -> tuple[int, int] | None:
    """Lane and offset of the record that this one was made of; None if it was made of none."""
    for name, value in headers:
        if name == FROM and value is not None:
            lane, _, offset = value.partition(b":")
            if lane.isdigit() and offset.isdigit():
                return int(lane), int(offset)
    return None


@dataclass(frozen=True, slots=True)
class Mark:
    """What a lane's mover notes beside its committed offset.

    offset_ns, boot: the clock, so that a change is seen by whoever comes next. until: up to this
    offset (not included) tasks may have been sent on already; 0: none was. since_ms: from when on.
    """

    boot: str
    offset_ns: int
    until: int = 0
    since_ms: int = 0

    def to_text(self) -> str:
        """As metadata of a commit, which has room for 192 bytes."""
        return f"{self.boot} {self.offset_ns} {self.until} {self.since_ms}"

    @classmethod
    def of(cls, text: str) -> Self | None:
        """What was noted; None if it says nothing."""
        words = text.split()
        if len(words) != 4 or not all(word.lstrip("-").isdigit() for word in words[1:]):
            return None
        return cls(words[0], int(words[1]), int(words[2]), int(words[3]))

    def was_set(self, now: Now) -> bool:
        """True if the wall clock has been set since, in this boot."""
        return self.boot == now.boot and abs(self.offset_ns - now.offset_ns) > STEP_NS
