"""What all workers of this user are doing, read from their boards: `workers.statistics()`.

Reading costs the workers nothing, and needs no bus and no permission but that of the same user.
"""

import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from workers.block import Block, Task
from workers.board import Board, living
from workers.layout import HISTOGRAM_WORDS, SLOW_MAX, Head, State, Word, bucket_top_ns

_NS = 1e9


@dataclass(frozen=True, slots=True)
class TaskStatistics:
    """A task in hand."""

    topic: str
    partition: int
    offset: int
    running_s: float


@dataclass(frozen=True, slots=True)
class SlowTaskStatistics:
    """One of the slowest tasks that were finished."""

    topic: str
    partition: int
    offset: int
    took_s: float


@dataclass(frozen=True, slots=True)
class Ratios:
    """The parts of workers' lives, in sum 1: starting, in `init`, waiting for tasks, in handlers.

    In a worker that runs several tasks at once, each of them counts as work.
    """

    start: float
    init: float
    wait: float
    work: float


@dataclass(frozen=True, slots=True)
class WorkerStatistics:
    """One worker process; counters and times are of all that had its number.

    `state`: starting, waiting, working, draining. `start_s`: from the start of the process until
    it was ready, without `init_s`. `p50_s`, `p99_s`: of the tasks' durations, None without tasks.
    `slowest`: up to eight of its tasks.
    """

    number: int
    pid: int
    state: str
    age_s: float
    rss_bytes: int
    tasks: tuple[TaskStatistics, ...]
    done: int
    failed: int
    retried: int
    timeouts: int
    dead: int
    interrupted: int
    deferred: int
    start_s: float
    init_s: float
    wait_s: float
    work_s: float
    p50_s: float | None
    p99_s: float | None
    slowest: tuple[SlowTaskStatistics, ...] = ()

    @property
    def ratios(self) -> Ratios | None:
        """What it spent its time on; None before it was ready."""
        return ratios(self.start_s, self.init_s, self.wait_s, self.work_s)


@dataclass(frozen=True, slots=True)
class Statistics:
    """A set of workers. Totals are of all its workers, also of those that are gone.

    `done` tasks were finished; `failed` attempts were not: `retried` ones come again, `dead` ones
    were given up. `deferred` is how often a limit sent a record away, to come later. `crashes` and
    `out_of_memory` count worker processes, `timeout_kills` those that were killed because a handler
    did not end in its time; `restarts` and `recycled` count what was done about workers.
    """

    description: dict[str, Any]
    pid: int
    started: float
    workers: tuple[WorkerStatistics, ...]
    done: int
    failed: int
    retried: int
    timeouts: int
    dead: int
    interrupted: int
    deferred: int
    crashes: int
    out_of_memory: int
    restarts: int
    recycled: int
    timeout_kills: int
    killed_at_end: int
    wait_s: float
    work_s: float
    p50_s: float | None
    p99_s: float | None
    start_s: float = 0.0
    init_s: float = 0.0
    slowest: tuple[SlowTaskStatistics, ...] = ()

    @property
    def ratios(self) -> Ratios | None:
        """What all workers spent their time on; None before the first one was ready."""
        return ratios(self.start_s, self.init_s, self.wait_s, self.work_s)

    @property
    def rss_bytes(self) -> int:
        """The resident memory of all workers."""
        return sum(worker.rss_bytes for worker in self.workers)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        found = asdict(self)
        found["ratios"] = None if self.ratios is None else asdict(self.ratios)
        return found


def ratios(start_s: float, init_s: float, wait_s: float, work_s: float) -> Ratios | None:
    """Times as parts of their sum; None if there is none yet."""
    whole_s = start_s + init_s + wait_s + work_s
    if not whole_s:
        return None
    return Ratios(start_s / whole_s, init_s / whole_s, wait_s / whole_s, work_s / whole_s)


def statistics() -> list[Statistics]:
    """All sets of workers of this user whose supervisor lives, on all buses."""
    return [read(board) for board in living()]


def read(board: Board) -> Statistics:
    """What a board says now."""
    words, now_ns = board.words, time.monotonic_ns()
    topics = board.description.get("topics", [])
    blocks = list(enumerate(board.blocks))
    present = [one for one in blocks if one[1][Word.STATE] != State.ABSENT]
    counts = [block.histogram() for _, block in blocks]
    histogram = [sum(column) for column in zip(*counts, strict=True)]
    return Statistics(
        description=board.description,
        pid=words[Head.PID],
        started=words[Head.STARTED_NS] / _NS,
        workers=tuple(_worker(number, block, topics, now_ns) for number, block in present),
        **_counters(board.blocks),
        crashes=words[Head.CRASHES],
        out_of_memory=words[Head.OUT_OF_MEMORY],
        restarts=words[Head.RESTARTS],
        recycled=words[Head.RECYCLED],
        timeout_kills=words[Head.TIMEOUT_KILLS],
        killed_at_end=words[Head.KILLED_AT_END],
        **_times(board.blocks),
        p50_s=percentile(histogram, 0.50),
        p99_s=percentile(histogram, 0.99),
        slowest=_slowest(board.blocks, topics),
    )


def _times(blocks: Iterable[Block]) -> dict[str, Any]:
    words = {
        "start_s": Word.START_NS,
        "init_s": Word.INIT_NS,
        "wait_s": Word.WAIT_NS,
        "work_s": Word.WORK_NS,
    }
    found = list(blocks)
    return {name: sum(block[word] for block in found) / _NS for name, word in words.items()}


def _slowest(blocks: Iterable[Block], topics: Sequence[str]) -> tuple[SlowTaskStatistics, ...]:
    found = sorted((one for block in blocks for one in block.slowest()), key=lambda t: -t.took_ns)
    return tuple(
        SlowTaskStatistics(_name(one.topic, topics), one.partition, one.offset, one.took_ns / _NS)
        for one in found[:SLOW_MAX]
    )


def _counters(blocks: Iterable[Block]) -> dict[str, int]:
    words = {
        "done": Word.DONE,
        "failed": Word.FAILED,
        "retried": Word.RETRIED,
        "timeouts": Word.TIMEOUTS,
        "dead": Word.DEAD,
        "interrupted": Word.RELEASED,
        "deferred": Word.DEFERRED,
    }
    found = list(blocks)
    return {name: sum(block[word] for block in found) for name, word in words.items()}


def _worker(number: int, block: Block, topics: Sequence[str], now_ns: int) -> WorkerStatistics:
    histogram = block.histogram()
    return WorkerStatistics(
        number=number,
        pid=block[Word.PID],
        state=State(block[Word.STATE]).name.lower(),
        age_s=(now_ns - block[Word.BORN_NS]) / _NS,
        rss_bytes=block[Word.RSS_BYTES],
        tasks=tuple(_task(task, topics, now_ns) for task in block.tasks()),
        **_counters([block]),
        **_times([block]),
        p50_s=percentile(histogram, 0.50),
        p99_s=percentile(histogram, 0.99),
        slowest=_slowest([block], topics),
    )


def _task(task: Task, topics: Sequence[str], now_ns: int) -> TaskStatistics:
    running_s = (now_ns - task.since_ns) / _NS
    return TaskStatistics(_name(task.topic, topics), task.partition, task.offset, running_s)


def _name(topic: int, topics: Sequence[str]) -> str:
    return topics[topic] if topic < len(topics) else ""


def percentile(histogram: Sequence[int], part: float) -> float | None:
    """The duration (s) that `part` of all tasks did not exceed, 19 % too high at most."""
    left = part * sum(histogram)
    if not left:
        return None
    for index in range(HISTOGRAM_WORDS):
        left -= histogram[index]
        if left <= 0:
            return bucket_top_ns(index) / _NS
    return bucket_top_ns(HISTOGRAM_WORDS - 1) / _NS
