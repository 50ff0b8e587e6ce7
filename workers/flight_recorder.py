"""A worker's part in the flight record: a note of each attempt, in shared memory.

Nothing is sent from here. A note is some 50 bytes in the worker's ring on the board; the
supervisor sends what it finds there, also when the worker is dead.
"""

import time
from collections.abc import Sequence
from typing import Final

from workers.attempts import Outcome
from workers.current_task import CurrentTask
from workers.flight_note import ATTEMPT_MAX, HEAD, packed
from workers.post import Post
from workers.remote import message, type_name

#: Tells the supervisor that there is much to take.
CALL: Final = b"\0flight"
_CALL_PAUSE_NS: Final = 10_000_000


class FlightRecorder:
    """The recorder of one worker."""

    def __init__(self, post: Post, topics: Sequence[str], *, is_async: bool) -> None:
        self._is_async = is_async
        self._post = post
        self._block = post.block
        self._ring = post.board.rings[post.number]
        self._numbers = {topic: number for number, topic in enumerate(topics)}
        #: what makes wall time of monotonic time; steps of the wall clock are not followed
        self._wall_ns = time.time_ns() - time.monotonic_ns()
        self._cpu_ns = time.thread_time_ns()
        self._called_ns = 0

    def note(
        self,
        task: CurrentTask,
        outcome: Outcome,
        error: BaseException | None = None,
        decision: str = "",
    ) -> None:
        """See Recorder. The CPU time is that of this thread since its last note.

        Tasks of an async handler share the thread, so theirs is not known.
        """
        since_ns, now_ns = self._block.since_ns(task.slot), time.monotonic_ns()
        cpu_ns, before_ns = time.thread_time_ns(), self._cpu_ns
        self._cpu_ns = cpu_ns
        record = task.record
        fields = (
            outcome,
            min(task.attempt, ATTEMPT_MAX),
            self._numbers[record.topic],
            record.partition,
            record.offset,
            since_ns + self._wall_ns,
            now_ns - since_ns,
            0 if self._is_async else cpu_ns - before_ns,
        )
        if error is None and not decision:
            waiting = self._ring.put_packed(HEAD, HEAD.size, *fields)
        else:
            told = "" if error is None else f"{type_name(error)}: {message(error)}; "
            waiting = self._ring.put(packed(*fields, told + decision))
        if waiting > self._ring.half and now_ns - self._called_ns > _CALL_PAUSE_NS:
            self._called_ns = now_ns
            self._post.tell(CALL)
