"""The regular look at each worker: its memory and age, its tasks' deadlines, its own end.

Everything is read from outside, so it costs the workers nothing, and a worker that is stuck is
seen as well as one that is not.
"""

import logging
import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from workers.block import Task
from workers.board import Board
from workers.ending import interrupt
from workers.layout import Head, Word
from workers.overtime import Step, step_of
from workers.post import SOFT
from workers.verdicts import NO_CODE, Kind
from workers.worker import Stage, Worker

logger = logging.getLogger(__name__)

_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")
_RSS_FIELD: Final = 1
#: How long a process may take to stop, before it is looked at as it is.
STOP_WAIT_S: Final = 0.05


class Inspection:
    """Looks at workers, and acts on those that are worn, late or past their end."""

    def __init__(self, board: Board) -> None:
        self._board = board

    def look(self, worker: Worker, now_s: float) -> None:
        """Notes a worker's memory, and marks it if it is worn."""
        block = worker.block
        block.words[Word.RSS_BYTES] = rss = rss_bytes(worker.pid)
        if worker.is_worn or worker.stage is not Stage.READY:
            return
        age_s = now_s - worker.ready_s
        reason = worker.limits.reason(tasks=block[Word.LIFE_ENDED], rss_bytes=rss, age_s=age_s)
        if reason:
            logger.info("worker process %d is replaced after %s", worker.pid, reason)
            worker.is_worn = True

    def press(self, workers: Sequence[Worker], now_s: float) -> None:
        """Takes the steps that are due against late tasks and against workers that do not end."""
        now_ns = time.monotonic_ns()
        for worker in workers:
            for task in worker.block.tasks():
                if task.deadline_ns:
                    self._press_task(worker, task, now_ns)
            if worker.kill_at_s and now_s >= worker.kill_at_s:
                self._condemn(worker, None)
            elif worker.kill_at_s and now_s >= worker.soft_at_s:
                interrupt(worker)

    def _press_task(self, worker: Worker, task: Task, now_ns: int) -> None:
        step = step_of(task, now_ns)
        since_ns, taken = worker.steps.get(task.slot, (0, Step.FINE))
        if since_ns != task.since_ns:
            taken = Step.FINE
        if step <= taken:
            return
        worker.steps[task.slot] = (task.since_ns, step)
        seconds = (now_ns - task.since_ns) / 1e9
        logger.warning(
            "worker process %d: partition %d, offset %d has run for %.1f s: %s",
            *(worker.pid, task.partition, task.offset, seconds, step.name.lower()),
        )
        if step is Step.SOFT:
            worker.process.send(SOFT)
        elif step is Step.TERM:
            worker.process.send(signal.SIGTERM)
        elif step is Step.KILL:
            self._kill_late(worker, task)

    def _kill_late(self, worker: Worker, task: Task) -> None:
        """Kills the worker if it still runs that task, which it cannot finish while we look."""
        worker.process.send(signal.SIGSTOP)
        _wait_stopped(worker.pid)
        if not worker.block.is_running(task):
            worker.process.send(signal.SIGCONT)
            return
        self._board.add(Head.TIMEOUT_KILLS)
        self._condemn(worker, task)

    def _condemn(self, worker: Worker, guilty: Task | None) -> None:
        """Writes the verdicts, then kills."""
        for task in worker.block.tasks():
            if task not in worker.judged:
                kind = Kind.TIMEOUT if task == guilty else Kind.INTERRUPT
                worker.judged[task] = kind
                self._board.judge(task.where, kind, worker.pid, NO_CODE)
        worker.process.send(signal.SIGKILL)


def rss_bytes(pid: int) -> int:
    """Resident memory of a process; 0 if it is no more."""
    try:
        fields = Path(f"/proc/{pid}/statm").read_text().split()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return int(fields[_RSS_FIELD]) * _PAGE_BYTES


def _wait_stopped(pid: int) -> None:
    deadline_s = time.monotonic() + STOP_WAIT_S
    while _state(pid) not in "TtZX" and time.monotonic() < deadline_s:
        time.sleep(0.0005)


def _state(pid: int) -> str:
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return "X"
    return text.rpartition(")")[2].split()[0]
