"""A worker's post: what a worker process holds of its supervision, and how it ends.

    SIGTERM   drain: take nothing new, finish what is in hand, end with code 0
    SIGINT    ignored: Ctrl-C at a terminal reaches all processes, and the supervisor decides
    SOFT      raise in the handler that runs: TaskTimeout, or TaskInterrupted while draining

A worker never outlives its supervisor by more than the time to drain. A thread of it waits for the
supervisor's pidfd; whether it was killed, crashed or stopped, the worker drains then, is
interrupted after `drain_timeout_s`, and exits a second later. Assumes that a handler lets other
threads run now and then: one that keeps the GIL for good is beyond help from within.
"""

import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from types import FrameType
from typing import Final

from workers.block import Block
from workers.board import Board, sweep
from workers.errors import TaskInterrupted, TaskTimeout
from workers.remote import formatted
from workers.start_methods import restore_environment

#: Interrupts a handler. A real-time signal: programs use SIGUSR1 and SIGUSR2 themselves.
SOFT: Final[int] = signal.SIGRTMIN + 5
#: Exit codes: an error that the worker told of; its supervisor is gone and it would not end.
EXIT_ERROR: Final = 1
EXIT_ORPHAN: Final = 70
#: Between the interrupt of an orphan's handler and its end.
ORPHAN_PAUSE_S: Final = 1.0

#: What is told of the error that ends a worker.
LAST_WORDS_CHARS: Final = 4000
#: The first byte of what a worker says.
READY: Final = b"R"
WORN: Final = b"W"
FAILED: Final = b"E"
TOLD: Final = b"T"

_START_TICKS_FIELD: Final = 22


@dataclass(frozen=True, slots=True)
class Seed:
    """What a worker is told at its start."""

    number: int
    supervisor_pid: int
    supervisor_start_ticks: int
    board: Path
    drain_timeout_s: float
    #: after so many tasks the worker is to ask for its replacement
    max_tasks: int | None = None
    #: variables that a fork server has otherwise than the supervisor
    environment: dict[str, str | None] = field(default_factory=dict)


class Post:
    """A worker's end of its supervision. Made in the worker process, for its main thread.

    Attributes: `number` (of the worker, its block's on the board), `board`, `block`, `max_tasks`
    (after so many it should call `worn`), `is_interruptible` (while it is True, SOFT raises).
    """

    def __init__(self, seed: Seed, board: Board, writer: Connection) -> None:
        self.number = seed.number
        self.max_tasks = seed.max_tasks
        self.board = board
        self.block: Block = self.board.blocks[seed.number]
        self._writer = writer
        self._draining = threading.Event()
        self.is_interruptible = False
        self._saying = threading.Lock()
        #: called in the main thread when a drain begins, to wake whatever waits there
        self.on_drain: Callable[[], None] = _nothing
        #: called in the main thread by SOFT if no handler is to be interrupted by an exception
        self.on_interrupt: Callable[[], None] = _nothing

    # ------------------------------------------------------------------ word to the supervisor

    def ready(self, init_ns: int = 0) -> None:
        """This worker can take tasks; one that it replaces retires now."""
        self.block.ready(init_ns)
        self._say(READY)

    def worn(self, reason: str) -> None:
        """Asks to be replaced: this worker goes on until the other one is ready."""
        self._say(WORN + reason.encode())

    def tell(self, data: bytes) -> None:
        """Sends up to 16 KiB to the supervisor's `on_message`."""
        self._say(TOLD + data)

    def _say(self, data: bytes) -> None:
        with self._saying, suppress(OSError):  # nobody is there to hear: the lifeline ends us
            self._writer.send_bytes(data)

    # ------------------------------------------------------------------ word from the supervisor

    @property
    def draining(self) -> bool:
        """True if no new task is to be taken."""
        return self._draining.is_set()

    def drain(self) -> None:
        """Begins the drain, as SIGTERM does."""
        self._draining.set()

    def wait_draining(self, timeout_s: float) -> bool:
        """Sleeps until the drain begins; False if it did not within the time."""
        return self._draining.wait(timeout_s)

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """Within it, SOFT raises TaskTimeout or TaskInterrupted in the main thread."""
        self.is_interruptible = True
        try:
            yield
        finally:
            self.is_interruptible = False

    def on_soft(self, number: int, frame: FrameType | None) -> None:
        """The handler of SOFT. Raises once, so that what cleans up after it is left in peace."""
        if not self.is_interruptible:
            self.on_interrupt()
            return
        if not self.draining and not self._is_late():
            return  # it was sent for the task before this one
        self.is_interruptible = False
        if self.draining:
            raise TaskInterrupted("the worker is ending, and the time to finish its task is over")
        raise TaskTimeout("the handler has run for longer than its timeout")

    def _is_late(self) -> bool:
        now_ns = time.monotonic_ns()
        return any(0 < task.deadline_ns <= now_ns for task in self.block.tasks())

    def on_term(self, number: int, frame: FrameType | None) -> None:
        """The handler of SIGTERM."""
        self.drain()
        self.on_drain()


def _nothing() -> None:
    """For who need not be woken."""


def live(life: Callable[[Post], None], seed: Seed, writer: Connection) -> None:
    """The whole life of a worker process. Ends the process: never returns to multiprocessing.

    `life(post)` runs in the main thread and returns when it has drained.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    restore_environment(seed.environment)
    post = Post(seed, Board.open(seed.board), writer)
    signal.signal(signal.SIGTERM, post.on_term)
    signal.signal(SOFT, post.on_soft)
    post.block.born(os.getpid())
    with suppress(OSError), open("/proc/self/comm", "w") as comm:
        comm.write(f"worker-{seed.number}")
    _hold_lifeline(post, seed)
    try:
        life(post)
    except BaseException as error:
        post._say(FAILED + formatted(error)[-LAST_WORDS_CHARS:].encode(errors="replace"))
        raise
    finally:
        sys.stdout.flush()
        sys.stderr.flush()


# ---------------------------------------------------------------------------------- lifeline


def _hold_lifeline(post: Post, seed: Seed) -> None:
    pidfd = _pidfd_of_supervisor(seed)
    if pidfd is None:
        os._exit(EXIT_ORPHAN)  # it died while we started, and nobody knows of us
    main = threading.main_thread().ident or 0
    watcher = threading.Thread(
        target=_watch, args=(post, pidfd, seed.drain_timeout_s, main), name="lifeline", daemon=True
    )
    watcher.start()


def _watch(post: Post, pidfd: int, drain_timeout_s: float, main_thread: int) -> None:
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    poll.poll()
    sweep()  # its board, which has nobody else to remove it; what is mapped stays
    # as a signal to the main thread it also wakes what sleeps there
    signal.pthread_kill(main_thread, signal.SIGTERM)
    time.sleep(drain_timeout_s)
    signal.pthread_kill(main_thread, SOFT)
    time.sleep(ORPHAN_PAUSE_S)
    os._exit(EXIT_ORPHAN)


def _pidfd_of_supervisor(seed: Seed) -> int | None:
    try:
        pidfd = os.pidfd_open(seed.supervisor_pid)
    except ProcessLookupError:
        return None
    # looked at after the pidfd: if this is still the supervisor, the pidfd is of it as well
    if start_ticks(seed.supervisor_pid) != seed.supervisor_start_ticks:
        os.close(pidfd)
        return None
    return pidfd


def start_ticks(pid: int) -> int | None:
    """When a process started, in clock ticks since boot: tells it from a later one of its pid."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    # field 2, the program's name in brackets, may hold spaces and brackets of its own
    return int(text.rpartition(")")[2].split()[_START_TICKS_FIELD - 3])
