"""What a supervisor tells of its workers to whoever had them started."""

from dataclasses import dataclass

from workers.block import Task
from workers.errors import CrashLoopError
from workers.exits import Exit
from workers.verdicts import Kind


@dataclass(frozen=True, slots=True)
class End:
    """The end of one worker.

    `tasks` are those that it had in hand, `verdicts` what the supervisor judged of each, `kind`
    what it judged of the worker. `asked` is True if it was to end: it retired, or all are ending.
    `last_words`: the error it told of, or "".
    """

    number: int
    pid: int
    exit: Exit
    kind: Kind
    tasks: tuple[Task, ...]
    asked: bool
    last_words: str
    verdicts: tuple[Kind, ...] = ()


class Observer:
    """Override what is of interest. All are called in the supervisor's thread; none may block."""

    def on_ready(self, number: int, pid: int) -> None:
        """A worker can take tasks."""

    def on_message(self, number: int, pid: int, data: bytes) -> None:
        """A worker called `post.tell(data)`."""

    def on_end(self, end: End) -> None:
        """A worker is no more."""

    def on_give_up(self, error: CrashLoopError) -> None:
        """No worker gets anything done; all are ended, and none is started again."""

    def on_tick(self) -> None:
        """Called about ten times a second."""
