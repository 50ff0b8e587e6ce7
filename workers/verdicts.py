"""Why a worker that held a record ended: what the supervisor judges and the next holder reads.

The bus counts one `crash` for a record whose holder dies, whatever it died of. The supervisor
knows better: it writes a verdict for every task that the dead worker had in hand, and the next
worker that claims such a record takes the verdicts out of the number of crashes.

A verdict of TIMEOUT or INTERRUPT is written before the kill. One of CRASH or OOM comes some
milliseconds after the death, so a record may be claimed again before it: `wait_for` waits a
moment, but not for ever, for the supervisor may be dead as well. What has no verdict is a crash.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from workers.board import Board
from workers.exits import Exit, exit_of
from workers.layout import EXIT_BIAS

#: How long a claimed record waits for the verdict on its last holder.
WAIT_S: Final = 0.25
_PAUSE_S: Final = 0.002
#: The exit word of a worker whose exit code is not known (yet).
NO_CODE: Final = 0


class Kind(IntEnum):
    """What happened to the holder of a record."""

    CRASH = 1
    OOM = 2
    #: killed because the task ran longer than its timeout
    TIMEOUT = 3
    #: killed for a reason that is none of this record's: no attempt is counted
    INTERRUPT = 4


@dataclass(frozen=True, slots=True)
class Deaths:
    """The deaths of a record's holders, by kind, and how the last one ended (None: not known)."""

    crash: int = 0
    oom: int = 0
    timeout: int = 0
    interrupt: int = 0
    last: Exit | None = None


def exit_word(exit: Exit) -> int:
    """An exit as a word of the board."""
    if exit.signal is not None:
        return EXIT_BIAS - exit.signal
    return NO_CODE if exit.code is None else EXIT_BIAS + exit.code


def _exit_from(kind: int, pid: int, word: int) -> Exit:
    code = None if word == NO_CODE else word - EXIT_BIAS
    return exit_of(pid, code, out_of_memory=kind == Kind.OOM)


def deaths(counted: int, verdicts: Sequence[tuple[int, int, int]]) -> Deaths:
    """Tells apart `counted` deaths by the last verdicts on the record: (kind, pid, exit word).

    Older verdicts than that are of a record that was redriven or read again from the start.
    """
    known = list(verdicts)[-counted:] if counted else []
    kinds = [kind for kind, _, _ in known]
    return Deaths(
        crash=counted - len(known) + kinds.count(Kind.CRASH),
        oom=kinds.count(Kind.OOM),
        timeout=kinds.count(Kind.TIMEOUT),
        interrupt=kinds.count(Kind.INTERRUPT),
        last=_exit_from(*known[-1]) if known else None,
    )


def wait_for(board: Board, counted: int, topic: int, partition: int, offset: int) -> Deaths:
    """The deaths of a record's holders, with the verdict on each that comes within WAIT_S."""
    deadline = time.monotonic() + WAIT_S
    found = board.verdicts(topic, partition, offset)
    while len(found) < counted and time.monotonic() < deadline:
        time.sleep(_PAUSE_S)
        found = board.verdicts(topic, partition, offset)
    return deaths(counted, found)
