"""The thread that runs the callbacks of futures, started by the first one that has to wait."""

import logging
import threading
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from bus.errors import BusError, BusTimeoutError
from bus.native.core import RecordFuture

logger = logging.getLogger(__name__)

#: callbacks that may wait at once; add_callback blocks beyond it, so that memory stays bounded
PENDING_MAX: Final = 65_536
#: one look at a future that is not done, in seconds; in between, close() is noticed
SLICE_S: Final = 0.2


class Callback(NamedTuple):
    """Whom to tell of a future's end; either function may be missing."""

    future: RecordFuture
    on_success: Callable[..., object] | None
    on_failure: Callable[..., object] | None
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]

    def run(self, error: BusError | None) -> None:
        """Call what fits; an exception of the user's function is logged, as kafka-python does."""
        function = self.on_success if error is None else self.on_failure
        if function is None:
            return
        result = self.future.value if error is None else error
        try:
            function(*self.args, result, **self.kwargs)
        except Exception:
            logger.exception("a callback of %r failed", self.future)


class CallbackThread:
    """Runs callbacks in the order in which they were added."""

    def __init__(self) -> None:
        self._pending: deque[Callback] = deque()
        self._changed = threading.Condition()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="bus-callbacks", daemon=True)
        self._thread.start()

    def add(self, callback: Callback) -> None:
        """Queue one; waits while PENDING_MAX are queued."""
        with self._changed:
            if threading.current_thread() is not self._thread:
                self._changed.wait_for(lambda: len(self._pending) < PENDING_MAX)
            self._pending.append(callback)
            self._changed.notify_all()

    def stop(self, timeout_s: float | None) -> None:
        """Run what is done by then, and end. Callbacks of futures still open are not called."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        if threading.current_thread() is not self._thread:
            self._thread.join(timeout_s)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._pending or self._stopping)
                if not self._pending:
                    return
                callback = self._pending[0]
            if not self._settle(callback):
                if self._stopping:
                    return
                continue
            with self._changed:
                self._pending.popleft()
                self._changed.notify_all()

    def _settle(self, callback: Callback) -> bool:
        try:
            callback.future.get(SLICE_S)
        except BusTimeoutError:
            return False
        except BusError as error:
            callback.run(error)
            return True
        callback.run(None)
        return True
