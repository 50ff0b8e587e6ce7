"""What all workers have in common: they end when they are asked, or when their parent is gone.

An operation that takes longer than its deadline is a hang: the stacks of all threads go to the
worker's error file, and the process ends with exit code 1.
"""

import faulthandler
import json
import logging
import os
import random
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from bus.errors import BusError
from tests.soak.history import ERROR, Diary

#: Well beyond `max_block_ms`, the stops of the nemesis and a broker's start together, in seconds.
OPERATION_S: Final = 90.0


class Worker:
    """One process of the fleet: its orders, its diary, its dice.

    Started as: python -m MODULE DIRECTORY ORDERS, where ORDERS is a JSON object.
    """

    def __init__(self) -> None:
        self.path, orders = sys.argv[1], json.loads(sys.argv[2])
        self.orders: dict[str, Any] = orders
        self.name: str = orders["name"]
        self.diary = Diary(Path(orders["diary"]))
        self.dice = random.Random(f"{orders['seed']}-{self.name}")
        self._parent = os.getppid()
        self._asked_to_end = False
        self.announced = Announcements()
        signal.signal(signal.SIGTERM, self._end)

    def _end(self, *_: object) -> None:
        self._asked_to_end = True

    @property
    def goes_on(self) -> bool:
        """False once the worker shall end, or nobody is left who would ask it to."""
        return not self._asked_to_end and os.getppid() == self._parent

    @contextmanager
    def operation(self) -> Iterator[None]:
        """Something that has to be over in time."""
        faulthandler.dump_traceback_later(OPERATION_S, exit=True)
        try:
            yield
        finally:
            faulthandler.cancel_dump_traceback_later()

    def note_error(self, what: str, error: BusError) -> None:
        """An operation failed; the judge decides whether it may."""
        self.diary.write(ERROR, self.name, what, type(error).__name__, str(error)[:500])


class Announcements(logging.Handler):
    """Counts what the bus warned of in this process: a gap must not go by in silence."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.count = 0
        logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
        logging.getLogger("bus").addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        """One more."""
        self.count += 1
