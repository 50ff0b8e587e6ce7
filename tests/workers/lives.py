"""What workers do in tests; each is sent to its process by name."""

import os
import signal
import sys
import time
from pathlib import Path

from workers import Supervisor
from workers.layout import Word
from workers.post import Post

#: The task that `works` and the others have in hand: topic, partition, offset.
TASK = (0, 3, 77)


def waits(post: Post) -> None:
    """Takes no task."""
    post.ready()
    while not post.wait_draining(60.0):
        pass


def works(post: Post) -> None:
    """One short task after the other."""
    post.ready()
    while not post.draining:
        post.block.begin(0, *TASK, time.monotonic_ns(), 0)
        time.sleep(0.001)
        post.block.end(0, Word.DONE)


def works_and_grows(post: Post) -> None:
    """Each task keeps a MiB."""
    post.ready()
    kept = []
    while not post.draining:
        post.block.begin(0, *TASK, time.monotonic_ns(), 0)
        if len(kept) < 200:
            kept.append(bytearray(os.urandom(1 << 10)) * 1024)
        time.sleep(0.001)
        post.block.end(0, Word.DONE)


def has_a_long_task(post: Post) -> None:
    """A task that takes no notice of a drain, until it is interrupted."""
    post.ready()
    with post.interruptible():
        post.block.begin(0, *TASK, time.monotonic_ns(), 0)
        while True:
            time.sleep(60.0)


def has_a_stubborn_task(post: Post, timeout_s: float = 0.0) -> None:
    """A task that nothing but a kill will end."""
    post.ready()
    now = time.monotonic_ns()
    post.block.begin(0, *TASK, now, now + int(timeout_s * 1e9) if timeout_s else 0)
    while True:
        time.sleep(60.0)


def exits_with_3(post: Post) -> None:
    """Ends by itself, with a task in hand."""
    post.ready()
    post.block.begin(0, *TASK, time.monotonic_ns(), 0)
    sys.exit(3)


def kills_itself(post: Post) -> None:
    """As the OOM killer would, with a task in hand."""
    post.ready()
    post.block.begin(0, *TASK, time.monotonic_ns(), 0)
    os.kill(os.getpid(), signal.SIGKILL)


def fails_at_its_start(post: Post) -> None:
    """Never gets ready."""
    raise LookupError("the model is not there")


def fails_after_the_first(post: Post, mark: Path) -> None:
    """The first worker works; all later ones fail at their start."""
    if mark.exists():
        raise LookupError("no second time")
    mark.touch()
    works(post)


def has_a_pool_of_its_own(post: Post) -> None:
    """Supervises a worker itself; tells that worker's pid."""
    nested = Supervisor(waits, 1, description={})
    nested.start()
    while not nested.pids():
        time.sleep(0.001)
    post.tell(str(nested.pids()[0]).encode())
    waits(post)


def supervises(post: Post) -> None:
    """For a program whose main process is itself supervised."""
    has_a_pool_of_its_own(post)


def says_what_it_ignores(post: Post) -> None:
    """Tells how it stands to Ctrl-C."""
    post.tell(str(signal.getsignal(signal.SIGINT) is signal.SIG_IGN).encode())
    waits(post)
