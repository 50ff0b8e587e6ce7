"""One worker as its supervisor sees it, and how it is brought to its end.

STARTING ──ready──► READY ──replaced, or all end──► RETIRING ──► gone
    └──────────────────┴──── unasked ──────────────────────────► gone
"""

import time
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from workers.block import Block, Task
from workers.overtime import Step
from workers.process import WorkerProcess
from workers.recycling import Recycling
from workers.verdicts import Kind

#: Between the interrupt of a handler and SIGKILL.
KILL_PAUSE_S: Final = 1.0


class Stage(Enum):
    """Where a worker is in its life."""

    STARTING = "starting"
    READY = "ready"
    RETIRING = "retiring"


@dataclass(eq=False)
class Worker:
    """A running worker. Times are seconds of the monotonic clock."""

    number: int
    process: WorkerProcess
    block: Block
    limits: Recycling
    born_s: float = field(default_factory=time.monotonic)
    ready_s: float = 0.0
    stage: Stage = Stage.STARTING
    #: it asked to be replaced, or a limit is reached; the one that will take its place
    is_worn: bool = False
    successor: "Worker | None" = None
    predecessor: "Worker | None" = None
    #: when its handler is interrupted, and when it is killed; 0: it may take its time
    soft_at_s: float = 0.0
    kill_at_s: float = 0.0
    #: slot -> (since_ns, the last step taken against the task)
    steps: dict[int, tuple[int, Step]] = field(default_factory=dict)
    #: tasks that have their verdict already
    judged: dict[Task, Kind] = field(default_factory=dict)
    last_words: str = ""

    @property
    def pid(self) -> int:
        return self.process.pid

    def end_by(self, soft_at_s: float) -> None:
        """The handler is interrupted then, and the process killed soon after."""
        self.soft_at_s = soft_at_s
        self.kill_at_s = soft_at_s + KILL_PAUSE_S
