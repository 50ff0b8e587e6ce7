"""map(): items in chunks, results in order.

Chunks begin with one item, so that the first results come soon, grow to a SHARE of what is left
for each worker, and become smaller again towards the end, so that workers end together: the guided
self-scheduling of Polychronopoulos and Kuck (1987).
"""

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice, starmap
from typing import Any, Final

from workers.errors import TaskInterrupted
from workers.remote import ToldException
from workers.task_future import TaskFuture

#: Of what is left, a chunk is one SHARE-th of each worker's part.
SHARE: Final = 4
CHUNK_MAX: Final = 1 << 14
#: The last chunks are not smaller than if each worker had so many of them.
_SMALLEST: Final = 128
#: Each worker gets so many chunks of a size before they are made GROWTH times as large.
_RAMP: Final = 2
_GROWTH: Final = 4

#: arguments of the function, one for each call
Items = Sequence[Any]
#: the results of a chunk, and what the item behind them raised
Outcome = tuple[list[Any], bytes | None]
#: What can be cut into pieces as it is: a piece of a range is three numbers.
_SLICED: Final = (range, list, tuple)


def run_chunk(function: Callable[..., Any], items: Items, star: bool) -> Outcome:
    """In a worker: the results up to the first error, and that error, told.

    star: each item is a tuple of arguments.
    """
    results: list[Any] = []
    try:
        # what came before an error stays in the list
        results.extend(starmap(function, items) if star else map(function, items))
    except TaskInterrupted:
        raise
    except BaseException as error:  # noqa: BLE001 - told to who iterates
        return results, ToldException.of(error).to_bytes()
    return results, None


def all_of(iterable: Iterable[Any]) -> Items:
    """The items, taken now."""
    return iterable if type(iterable) in _SLICED else list(iterable)  # type: ignore[return-value]


def guided(items: Items, workers: int) -> Iterator[Items]:
    """Chunks of a sequence of known length."""
    at, size_max = 0, 1
    least = len(items) // (_SMALLEST * workers)
    while at < len(items):
        for _ in range(_RAMP * workers):
            size = max(1, least, (len(items) - at) // (SHARE * workers))
            yield items[at : at + min(size, size_max)]
            at += min(size, size_max)
            if at >= len(items):
                return
        size_max = min(_GROWTH * size_max, CHUNK_MAX)


def equal(items: Iterable[Any], size: int) -> Iterator[Items]:
    """Chunks of one size, taken from the iterable as they are asked for."""
    source = iter(items)
    while chunk := list(islice(source, size)):
        yield chunk


def in_order(
    submit: Callable[[Items], TaskFuture[Outcome]],
    cancel: Callable[[Iterable[TaskFuture[Any]]], object],
    chunks: Iterator[Items],
    pending_max: int | None,
    deadline_s: float | None,
) -> Iterator[Any]:
    """Submits `pending_max` chunks at once (None: all), and each further one as one is done."""
    pending = deque(map(submit, islice(chunks, pending_max)))
    return _results(submit, cancel, chunks, pending, deadline_s)


def _results(
    submit: Callable[[Items], TaskFuture[Outcome]],
    cancel: Callable[[Iterable[TaskFuture[Any]]], object],
    chunks: Iterator[Items],
    pending: deque[TaskFuture[Outcome]],
    deadline_s: float | None,
) -> Iterator[Any]:
    try:
        while pending:
            left_s = None if deadline_s is None else deadline_s - time.monotonic()
            results, told = pending[0].result(left_s)
            pending.popleft()
            pending.extend(map(submit, islice(chunks, 1)))
            results.reverse()
            while results:  # an item that was given out is not kept here
                yield results.pop()
            if told is not None:
                raise ToldException.from_bytes(told).exception()
    finally:
        cancel(pending)
