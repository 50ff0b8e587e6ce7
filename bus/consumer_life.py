"""The life of a consumer of either kind: attached, attached anew after a fork or a move, closed.

`_in_use` is the door that every public method goes through: one thread at a time, never after
close(), attached anew in a forked child.
"""

import math
import os
import threading
import time
from contextlib import AbstractContextManager
from typing import Any, Final, Generic, Protocol, TypeVar

from bus.client import Client
from bus.errors import BrokerNotRunningError
from bus.fetching import Fetching
from bus.moves import follow_move
from bus.native.core import ConsumerCore, ConsumerRecord
from bus.structs import TopicPartition

Records = dict[TopicPartition, list[ConsumerRecord]]

#: longer than anybody waits: a year
FOREVER_MS: Final = 365 * 86_400_000.0
#: so long a consumer waits for a bus that leaves a spoiled hot directory, in seconds
MOVE_TIMEOUT_S: Final = 10.0
#: spinning before a sleep, where another core can be writing meanwhile, in us
SPIN_US: Final = 20.0 if (os.cpu_count() or 1) > 1 else 0.0


class LifeOptions(Protocol):
    """The options that the life of a consumer goes by."""

    @property
    def spin_us(self) -> float | None:
        """Busy waiting before a sleep."""

    @property
    def max_poll_records(self) -> int:
        """Records until another partition has its turn."""

    @property
    def consumer_timeout_ms(self) -> float:
        """An iteration ends when nothing came for so long."""


F = TypeVar("F", bound=Fetching[Any])


class ConsumerLife(ConsumerCore, Generic[F]):
    """Attaching, reading in turns with what is due, and the end."""

    _options: LifeOptions
    _fetcher: F

    def __init__(self) -> None:
        self._closed = False
        self._shutting = threading.Lock()
        #: while the bus moves: where the old one was read
        self._leaving_at: dict[TopicPartition, int] | None = None

    def _make_fetcher(self, client: Client, resume_at: dict[TopicPartition, int]) -> F:
        """One that reads nothing yet, and goes on there, unless more was committed since."""
        raise NotImplementedError

    def _end(self) -> None:
        """Let everything go."""
        raise NotImplementedError

    def _begin(self, fetcher: F) -> None:
        """Read through this fetcher."""
        options = self._options
        self._fetcher = fetcher
        self._attach(
            fetcher.client.bells,
            fetcher.client.slot.slot,
            spin_ns=int((SPIN_US if options.spin_us is None else options.spin_us) * 1e3),
            turn_records=options.max_poll_records,
            timeout_ms=None
            if options.consumer_timeout_ms == math.inf
            else options.consumer_timeout_ms,
            remote=fetcher.client if fetcher.client.is_guest else None,
        )

    def _in_use(self) -> AbstractContextManager[F]:
        """One thread at a time; a close() that comes meanwhile takes effect at the end."""
        return self._visit()

    def _look_again(self) -> None:
        """What is read has changed: the native core asks anew before it reads on."""
        self._read_from([], 0, 0)

    # ------------------------------------------------------------------------------ reading

    def _poll(self, timeout_ms: float, max_records: int | None) -> Records:
        """Records that are there, or that come within timeout_ms; at most max_records."""
        deadline_ns = time.monotonic_ns() + int(min(timeout_ms, FOREVER_MS) * 1e6)
        most = self._options.max_poll_records if max_records is None else max_records
        if most < 1:
            raise ValueError(f"max_records must be at least 1, not {max_records}")
        with self._in_use() as fetcher:
            self._publish()
            try:
                while not self._closed:
                    if self._is_due() or fetcher.is_pending:
                        self._coordinate()
                    found = self._gather(most)
                    if found or time.monotonic_ns() >= deadline_ns:
                        return found
                    self._sleep(deadline_ns)
                return {}
            except BaseException:
                self._rewind()
                raise

    def _coordinate(self) -> None:
        """Do what is due, and tell the native core what to read now."""
        if self._must_move:
            self._follow_move()
        try:
            self._fetcher.coordinate()
        except BrokerNotRunningError:
            self._look_again()
            if not self._must_move:  # it began to move meanwhile
                raise
            self._follow_move()
            self._fetcher.coordinate()
        except BaseException:
            self._look_again()  # whatever was not done is still due
            raise
        self._take_up(self._fetcher)

    def _take_up(self, fetcher: F) -> None:
        """Read what the fetcher says now."""
        raise NotImplementedError

    def _advance(self) -> None:
        """Something is due in the middle of an iteration."""
        if self._closed:
            raise StopIteration
        self._coordinate()

    # ------------------------------------------------------------------------ fork, move, end

    def _revive(self) -> None:
        """In a forked child: attach, and join as a member of one's own."""
        old = self._fetcher
        old.client.ensure()
        self._succeed(old, {})

    @property
    def _must_move(self) -> bool:
        return self._leaving_at is not None or self._fetcher.client.moving

    def _follow_move(self) -> None:
        """The bus goes on in another hot directory: attach there, and go on where we were.

        An error on the way leaves it to the next call, from the same positions.
        """
        old = self._fetcher
        if self._leaving_at is None:
            read = {tp: reader.offset for tp, reader in old.readers.items()}
            self._leaving_at = {**old.resume_at, **read}
        follow_move(old.client, MOVE_TIMEOUT_S)
        self._succeed(old, self._leaving_at)

    def _succeed(self, old: F, resume_at: dict[TopicPartition, int]) -> None:
        old.abandon()
        fetcher = self._make_fetcher(old.client, resume_at)
        fetcher.subscription = old.subscription
        self._begin(fetcher)
        self._leaving_at = None
        fetcher.follow_subscription()

    def _close(self) -> None:
        self._closed = True
        # Who leaves after this line sees it, and shuts. Seen twice does no harm.
        if self._in_use_now:
            self._fetcher.client.wake()
        else:
            self._shut()

    def _shut(self) -> None:
        if not self._shutting.acquire(blocking=False):
            return  # never released: there is one end
        self._look_again()
        self._watch(None, 0, 0)
        self._end()
