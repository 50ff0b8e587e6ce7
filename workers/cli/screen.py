"""What `python -m workers top` shows: drawn from what was read, and from what was read before."""

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from workers.backlog import Backlog
from workers.cli.output import human_bytes, human_time
from workers.figures import Statistics, WorkerStatistics

#: A set of workers: its supervisor's process and when it began.
Key = tuple[int, float]
_STYLES = {"working": "green", "waiting": "dim", "starting": "yellow", "draining": "yellow"}
#: Lines of tables that may be cut when there is less room than workers.
_SLOWEST_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Moment:
    """What was read at one time. `bus` says of each set what is left to do, or what is wrong."""

    monotonic_s: float
    pools: tuple[Statistics, ...]
    bus: dict[Key, "tuple[Backlog, ...] | str"] = field(default_factory=dict)

    def of(self, key: Key) -> Statistics | None:
        """The set of workers with that key; None if it was not there."""
        return next((one for one in self.pools if key_of(one) == key), None)


def key_of(pool: Statistics) -> Key:
    """What tells a set of workers from all others."""
    return pool.pid, pool.started


def draw(now: Moment, before: Moment | None, rows_max: int) -> RenderableType:
    """The screen, with at most so many workers of each set."""
    workers = sum(len(pool.workers) for pool in now.pools)
    memory = human_bytes(sum(pool.rss_bytes for pool in now.pools))
    head = Text(f"{len(now.pools)} pools, {workers} workers, {memory}, {time.strftime('%H:%M:%S')}")
    if not now.pools:
        head.append("; no workers of this user are running", style="dim")
    return Group(head, *(_pool(pool, now, before, rows_max) for pool in now.pools))


def _pool(pool: Statistics, now: Moment, before: Moment | None, rows_max: int) -> RenderableType:
    key = key_of(pool)
    last = None if before is None else before.of(key)
    passed_s = now.monotonic_s - before.monotonic_s if before is not None and last else None
    parts: list[RenderableType] = [_title(pool), _rates(pool, last, passed_s), _totals(pool)]
    left = now.bus.get(key)
    if isinstance(left, str):
        parts.append(Text(f"the bus: {left}", style="red"))
    elif left:
        parts.append(_partitions(left))
    parts.append(_workers(pool.workers, rows_max))
    if pool.slowest:
        slow = ", ".join(
            f"{one.topic}:{one.partition}:{one.offset} {human_time(one.took_s)}"
            for one in pool.slowest[:_SLOWEST_SHOWN]
        )
        parts.append(Text(f"slowest: {slow}", style="dim"))
    return Group(*parts)


def _title(pool: Statistics) -> Text:
    told = pool.description
    name = told.get("handler") or told.get("executor") or told.get("kind", "workers")
    title = Text(f"\n{name}", style="bold")
    if told.get("topics"):
        title.append(f" on {', '.join(told['topics'])} as {told.get('group', '?')}", style="")
    title.append(f", pid {pool.pid}, up {human_time(time.time() - pool.started)}", style="dim")
    return title


def _rates(pool: Statistics, last: Statistics | None, passed_s: float | None) -> Text:
    since = "since the start" if last is None or not passed_s else "now"
    if last is None or not passed_s:
        passed_s = max(1e-3, time.time() - pool.started)
    rates = [
        f"{name} {(getattr(pool, name) - (getattr(last, name) if last else 0)) / passed_s:.1f}/s"
        for name in ("done", "failed", "retried")
    ]
    found = pool.ratios
    parts = ""
    if found is not None:
        parts = (
            f"   start {found.start:.0%} init {found.init:.0%} wait {found.wait:.0%}"
            f" work {found.work:.0%}"
        )
    return Text(
        f"{', '.join(rates)} ({since})   p50 {human_time(pool.p50_s)} p99 {human_time(pool.p99_s)}"
        f"{parts}   {human_bytes(pool.rss_bytes)}"
    )


def _totals(pool: Statistics) -> Text:
    text = Text(f"done {pool.done}")
    trouble = ("failed", "retried", "dead", "timeouts", "interrupted", "deferred", "crashes")
    for name in (*trouble, "out_of_memory", "timeout_kills", "restarts", "recycled"):
        count = getattr(pool, name)
        if count:
            bad = name in ("dead", "crashes", "out_of_memory", "timeout_kills")
            text.append(f", {name.replace('_', ' ')} {count}", style="red" if bad else "")
    return text


def _partitions(left: Iterable[Backlog]) -> Table:
    columns = (">left", ">lag", ">in flight", ">came back", ">delayed", ">dead")
    rows = [
        (
            f"{one.topic}:{one.partition}",
            *(one.left, one.lag, one.in_flight, one.ready, one.delayed, one.dead),
        )
        for one in left
    ]
    return _table(("partition", *columns), rows)


def _workers(workers: Sequence[WorkerStatistics], rows_max: int) -> RenderableType:
    longest = sorted(workers, key=lambda one: -max((t.running_s for t in one.tasks), default=0.0))
    columns = (">worker", ">pid", "state", ">age", ">done", ">failed", ">p50", ">p99", ">memory")
    table = _table((*columns, "task"), [_row(worker) for worker in longest[:rows_max]])
    hidden = len(workers) - rows_max
    return Group(table, Text(f"and {hidden} more workers", style="dim")) if hidden > 0 else table


def _row(worker: WorkerStatistics) -> tuple[object, ...]:
    return (
        worker.number,
        worker.pid,
        Text(worker.state, style=_STYLES.get(worker.state, "")),
        human_time(worker.age_s),
        worker.done,
        worker.failed,
        human_time(worker.p50_s),
        human_time(worker.p99_s),
        human_bytes(worker.rss_bytes),
        task_of(worker),
    )


def task_of(worker: WorkerStatistics) -> str | None:
    """The task that has run for the longest, and how many more there are."""
    if not worker.tasks:
        return None
    longest = max(worker.tasks, key=lambda task: task.running_s)
    where = f"{longest.topic}:{longest.partition}:{longest.offset}"
    more = f" and {len(worker.tasks) - 1} more" if len(worker.tasks) > 1 else ""
    return f"{where} for {human_time(longest.running_s)}{more}"


def _table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in columns:
        table.add_column(
            name.removeprefix(">"), justify="right" if name.startswith(">") else "left"
        )
    for row in rows:
        cells = (cell if isinstance(cell, Text) else Text(_text(cell)) for cell in row)
        table.add_row(*cells)
    return table


def _text(cell: object) -> str:
    return "-" if cell is None else str(cell)
