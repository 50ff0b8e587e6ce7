"""Keeps a number of worker processes alive, each in its seat, until it is told to end.

One thread sleeps on the workers' pidfds and pipes. A worker that dies is replaced; one that is
worn (tasks, memory, age) is replaced first and retires when the other one is ready. Deaths are
judged for the tasks in hand (workers/verdicts.py), overlong tasks are ended (workers/overtime.py),
and when no worker gets anything done, all is given up.

    supervisor = Supervisor(life, 4, description={…}, observer=…)
    supervisor.start()  …  supervisor.drain(); supervisor.join()
"""

import logging
import os
import random
import selectors
import signal
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from multiprocessing import util
from typing import Any, Final

from workers import start_methods
from workers.bell import Bell
from workers.board import Board
from workers.ending import Ending
from workers.errors import CrashLoopError, StartMethodError
from workers.exits import Cause, OomCounter
from workers.inspection import Inspection
from workers.layout import Head, Word
from workers.observer import End, Observer
from workers.post import FAILED, READY, TOLD, WORN, Post, Seed, start_ticks
from workers.process import WorkerProcess
from workers.recycling import Recycling
from workers.restarts import DEATHS_MAX, Life, Restarts
from workers.verdicts import Kind, exit_word
from workers.worker import Stage, Worker

logger = logging.getLogger(__name__)

#: Between two looks at memory, ages and deadlines.
TICK_S: Final = 0.1
DRAIN_TIMEOUT_S: Final = 30.0
#: At the exit of the program, workers that it left running have this long.
EXIT_DRAIN_S: Final = 1.0


class Supervisor:
    """A set of supervised workers. `drain`, `stop` and `join` may be called from any thread.

    Attributes: `board`, `failure` (CrashLoopError once it has given up), `killed_with_work`
    (workers that did not end in time at the end, and had tasks in hand).
    """

    def __init__(
        self,
        life: Callable[[Post], None],
        processes: int,
        *,
        description: Mapping[str, Any],
        tasks_per_worker: int = 1,
        start_method: str = start_methods.FORKSERVER,
        preload: Sequence[str] = (),
        recycling: Recycling | None = None,
        restarts: Restarts | None = None,
        drain_timeout_s: float = DRAIN_TIMEOUT_S,
        observer: Observer | None = None,
        at_end: Callable[[], None] | None = None,
        flight_bytes: int = 0,
    ) -> None:
        """Makes the board; starts nothing. Raises NotPicklableError, StartMethodError, BoardError.

        `life(post)` is what each worker runs: it calls `post.ready()` once it can take tasks, and
        returns when `post.draining`. `description` goes to the board, for statistics. `at_end`
        is called when all workers have ended. `flight_bytes`: see Board.create.
        """
        if start_method != start_methods.FORK:
            start_methods.check_picklable("the worker's work", life)
        self._context = start_methods.context_for(start_method, preload)
        self._start_method = start_method
        self._life = life
        self._recycling = recycling or Recycling()
        self._drain_timeout_s = drain_timeout_s
        self._observer = observer or Observer()
        # each worker and its successor
        self.board = Board.create(2 * processes, tasks_per_worker, description, flight_bytes)
        self._free = list(range(2 * processes - 1, -1, -1))
        self._due_s = [0.0] * processes  # when to start a worker, for each seat without one
        self._workers: list[Worker] = []
        # all workers of a large set may be hit by the same trouble before one of them gets going
        self._restarts = restarts or Restarts(max(DEATHS_MAX, 3 * processes))
        self._oom = OomCounter()
        self._draw = random.Random()
        self._ending = Ending()
        self._inspection = Inspection(self.board)
        self._selector = selectors.DefaultSelector()
        self._bell = Bell()
        self._selector.register(self._bell.fd, selectors.EVENT_READ, self._hear_bell)
        self._at_exit: util.Finalize | None = None
        self._at_end = at_end
        self._over = threading.Event()
        self.failure: CrashLoopError | None = None
        self.killed_with_work = 0

    # ------------------------------------------------------------------ for everybody

    def start(self) -> None:
        """Supervises in a thread of its own. Workers that are left at exit are ended."""
        if self._start_method == start_methods.FORK:
            raise StartMethodError(
                "start_method='fork' needs the thread that supervises to be the only one: call"
                " run() instead of start(), or use 'forkserver'"
            )
        # before multiprocessing waits for its children, which would be for ever
        self._at_exit = util.Finalize(None, self._end_at_exit, exitpriority=10)
        threading.Thread(target=self._loop, name="workers", daemon=True).start()

    def run(self) -> None:
        """Supervises in this thread until all workers have ended. Raises CrashLoopError."""
        self._loop()
        if self.failure is not None:
            raise self.failure

    def drain(self, timeout_s: float | None = None) -> None:
        """Workers finish what they have in hand, for so long, and end. Does not wait.

        May be called from a signal handler, and again with a shorter time.
        """
        time_s = self._drain_timeout_s if timeout_s is None else timeout_s
        self._ending.ask(time.monotonic() + time_s)
        self._bell.ring()

    def stop(self) -> None:
        """Interrupts the handlers and ends all workers. Does not wait."""
        self.drain(0.0)

    def join(self, timeout_s: float | None = None) -> bool:
        """Waits until all workers have ended; False if they have not in time."""
        return self._over.wait(timeout_s)

    @property
    def is_over(self) -> bool:
        """True if all workers have ended, and none will be started."""
        return self._over.is_set()

    @property
    def is_draining(self) -> bool:
        """True once all workers are to end."""
        return self._ending.asked

    def pids(self) -> list[int]:
        """The worker processes that are there now."""
        return [worker.pid for worker in list(self._workers)]

    # ------------------------------------------------------------------ the loop

    def _loop(self) -> None:
        try:
            next_tick_s = 0.0
            while not (self._ending.asked and not self._workers):
                now_s = time.monotonic()
                if now_s >= next_tick_s:
                    self._tick(now_s)
                    next_tick_s = now_s + TICK_S
                self._start_due(now_s)
                self._serve(self._pause_s(next_tick_s))
        finally:
            self._end()

    def _pause_s(self, next_tick_s: float) -> float:
        wake_s = [next_tick_s]
        if not self._ending.asked:
            wake_s += self._due_s
        return max(0.0, min(wake_s) - time.monotonic())

    def _serve(self, timeout_s: float) -> None:
        for key, _ in self._selector.select(timeout_s):
            key.data()

    def _tick(self, now_s: float) -> None:
        for worker in list(self._workers):
            self._inspection.look(worker, now_s)
            if worker.is_worn:
                self._replace(worker)
        if self._ending.asked:
            self._ending.press(self._workers, now_s)
        self._inspection.press(self._workers, now_s)
        self._observer.on_tick()

    def _hear_bell(self) -> None:
        self._bell.hear()
        now_s = time.monotonic()
        self._ending.press(self._workers, now_s)
        self._inspection.press(self._workers, now_s)

    def _end(self) -> None:
        for worker in list(self._workers):  # only after an error in the loop itself
            worker.process.send(signal.SIGKILL)
            worker.process.wait(1.0)
            worker.process.close()
        self._selector.close()
        self.board.close()
        if self._at_end is not None:
            self._at_end()
        if self._at_exit is not None:
            self._at_exit.cancel()
        self._over.set()

    def _end_at_exit(self) -> None:
        self.drain(EXIT_DRAIN_S)
        self.join()

    # ------------------------------------------------------------------ beginnings

    def _start_due(self, now_s: float) -> None:
        while not self._ending.asked and self._due_s and min(self._due_s) <= now_s:
            self._due_s.remove(min(self._due_s))
            try:
                self._begin()
            except OSError as error:
                logger.warning("a worker process could not be started: %s", error)
                self._after_death(Life(0.0, was_ready=False, made_progress=False), str(error))

    def _begin(self, predecessor: Worker | None = None) -> None:
        """Starts a worker, in an empty seat or to take a worker's place. Raises OSError."""
        number, limits = self._free.pop(), self._recycling.drawn(self._draw)
        try:
            process = self._fork(number, limits)
        except OSError:
            self._free.append(number)
            raise
        worker = Worker(
            number,
            process,
            self.board.blocks[number],
            limits,
            predecessor=predecessor,
        )
        if predecessor is not None:
            predecessor.successor = worker
        self._workers.append(worker)
        if process.pidfd < 0:
            self._bury(worker)
            return
        self._selector.register(process.reader, selectors.EVENT_READ, partial(self._hear, worker))
        self._selector.register(process.pidfd, selectors.EVENT_READ, partial(self._bury, worker))

    def _fork(self, number: int, limits: Recycling) -> WorkerProcess:
        if self._start_method == start_methods.FORK:
            start_methods.refuse_threads()
        elif self._start_method == start_methods.FORKSERVER:
            start_methods.ensure_forkserver()
        seed = Seed(
            number=number,
            supervisor_pid=os.getpid(),
            supervisor_start_ticks=start_ticks(os.getpid()) or 0,
            board=self.board.path,
            drain_timeout_s=self._drain_timeout_s,
            max_tasks=limits.max_tasks,
            environment=start_methods.environment(),
        )
        return WorkerProcess.start(self._context, f"worker-{number}", self._life, seed)

    def _replace(self, worker: Worker) -> None:
        """Starts the one that will take a worker's place; the worker goes on until it is ready."""
        if worker.successor is not None or worker.stage is not Stage.READY or self._ending.asked:
            return
        if not self._free:
            return  # those that retired before are still at work; the next look tries again
        try:
            self._begin(worker)
        except OSError as error:
            logger.warning("a worker process could not be started: %s", error)

    # ------------------------------------------------------------------ what workers say

    def _hear(self, worker: Worker) -> None:
        if worker not in self._workers:
            return  # its end was seen first
        messages = worker.process.messages()
        for message in messages:
            self._understand(worker, message[:1], message[1:])
        if not messages:
            self._unregister(worker.process.reader)  # the end of the pipe: so is the worker's

    def _unregister(self, fileobj: Any) -> None:
        if fileobj in self._selector.get_map():
            self._selector.unregister(fileobj)

    def _understand(self, worker: Worker, what: bytes, data: bytes) -> None:
        if what == READY:
            self._ready(worker)
        elif what == WORN:
            worker.is_worn = True
            self._replace(worker)
        elif what == FAILED:
            worker.last_words = data.decode(errors="replace")
        elif what == TOLD:
            self._observer.on_message(worker.number, worker.pid, data)

    def _ready(self, worker: Worker) -> None:
        if worker.stage is Stage.STARTING:
            worker.stage = Stage.READY
        else:  # the first SIGTERM may have come before there was a handler for it
            worker.process.send(signal.SIGTERM)
        worker.ready_s = time.monotonic()
        old, worker.predecessor = worker.predecessor, None
        if old is not None:
            old.successor = None
            self.board.add(Head.RECYCLED)
            self._ending.retire(old, time.monotonic() + self._drain_timeout_s)
        self._observer.on_ready(worker.number, worker.pid)

    # ------------------------------------------------------------------ ends

    def _bury(self, worker: Worker) -> None:
        self._hear(worker)
        self._unregister(worker.process.reader)
        if worker.process.pidfd >= 0:
            self._unregister(worker.process.pidfd)
        end = self._judge(worker)
        self._workers.remove(worker)
        made_progress = worker.block[Word.LIFE_BEGUN] > 0
        worker.block.gone()
        worker.process.close()
        self._free.append(worker.number)
        if not end.asked:
            self._seat_is_empty(worker, end, made_progress)
        elif worker.predecessor is not None:
            worker.predecessor.successor = None
        self._observer.on_end(end)

    def _judge(self, worker: Worker) -> End:
        """What ended the worker, written to the board for each task that it had in hand."""
        exit = worker.process.take_exit(self._oom)
        kind = Kind.OOM if exit.cause is Cause.OOM else Kind.CRASH
        tasks = tuple(worker.block.tasks())
        if worker.judged and self._ending.asked:
            self.killed_with_work += 1
            self.board.add(Head.KILLED_AT_END)
        for task in tasks:
            if task not in worker.judged:
                self.board.judge(task.where, kind, worker.pid, exit_word(exit))
        verdicts = tuple(worker.judged.get(task, kind) for task in tasks)
        if worker.judged:
            kind = max(worker.judged.values(), key=lambda one: one == Kind.TIMEOUT)
        asked = worker.stage is Stage.RETIRING or self._ending.asked
        words = worker.last_words
        return End(worker.number, worker.pid, exit, kind, tasks, asked, words, verdicts)

    def _seat_is_empty(self, worker: Worker, end: End, made_progress: bool) -> None:
        if end.exit.cause is not Cause.DONE:
            logger.warning("%s%s", end.exit, _tail(end.last_words))
            self.board.add(Head.OUT_OF_MEMORY if end.kind is Kind.OOM else Head.CRASHES)
        if worker.predecessor is not None:  # the old one is still there, and may try again later
            worker.predecessor.successor = None
            worker.predecessor.is_worn = False
            return
        if worker.successor is not None:
            worker.successor.predecessor = None
            return
        lasted_s = time.monotonic() - worker.born_s
        life = Life(lasted_s, worker.stage is Stage.READY, made_progress)
        self._after_death(life, f"{end.exit}{_tail(end.last_words)}")

    def _after_death(self, life: Life, how: str) -> None:
        pause_s = self._restarts.pause_s(life)
        if any(worker.block[Word.LIFE_ENDED] for worker in self._workers):
            self._restarts.progress()
        if self._restarts.hopeless and not self._ending.asked:
            self._give_up(how)
        self.board.add(Head.RESTARTS)
        self._due_s.append(time.monotonic() + pause_s)

    def _give_up(self, how: str) -> None:
        deaths = self._restarts.fruitless
        self.failure = CrashLoopError(
            f"{deaths} workers in a row ended before any of them got anything done; the last one:"
            f" {how}",
            deaths=deaths,
            last=how,
        )
        logger.error("%s", self.failure)
        self._observer.on_give_up(self.failure)
        self.drain()


def _tail(text: str) -> str:
    """The error itself, which is the last line of a traceback."""
    lines = text.strip().splitlines()
    return f": {lines[-1]}" if lines else ""
