"""Who is proven dead: processes that hold something in shared memory, told by pid and start time.

A pidfd that was opened while the process lived says of its end without a doubt and at the cost of
one poll, also for a zombie, and for a pid that has got another process.
"""

import os
import select
from contextlib import suppress

from workers.post import start_ticks

#: Descriptors that are kept at most; further owners are looked at anew each time.
KEPT_MAX = 256


class Owners:
    """The owners that one process has looked at."""

    def __init__(self) -> None:
        self._pidfds: dict[tuple[int, int], int] = {}

    def is_dead(self, pid: int, ticks: int) -> bool:
        """True if the process with that pid that started then is proven to have ended."""
        owner = (pid, ticks)
        pidfd = self._pidfds.get(owner)
        if pidfd is None:
            try:
                pidfd = os.pidfd_open(pid)
            except ProcessLookupError:
                return True
            except OSError:
                return start_ticks(pid) != ticks  # no descriptor to be had: a zombie seems alive
            # looked at after the pidfd: if this is still the owner, the pidfd is of it as well
            if start_ticks(pid) != ticks:
                os.close(pidfd)
                return True
            self._pidfds[owner] = pidfd
        ended = _has_ended(pidfd)
        if ended or len(self._pidfds) > KEPT_MAX:
            os.close(self._pidfds.pop(owner))
        return ended

    def close(self) -> None:
        """Lets go of all descriptors. Idempotent."""
        while self._pidfds:
            with suppress(OSError):
                os.close(self._pidfds.popitem()[1])


def _has_ended(pidfd: int) -> bool:
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(0))
