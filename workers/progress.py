"""How far work is that has an end: a bar in a terminal, or now and then a line.

    pool.run(until_idle=True, progress=True)
    executor.map(function, items, progress=True)

Both are drawn from counts that are there anyway, so a task costs nothing more for it. The bar goes
to stderr. Where that is no terminal, True shows nothing, and "always" writes a line every five
seconds, and one at the end.
"""

from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future
from operator import length_hint
from typing import Any, Literal, TypeVar

T = TypeVar("T")
F = TypeVar("F", bound=Future[Any])
Asked = bool | Literal["always"]


class MapProgress:
    """The bar of a map: counts the items of chunks as their futures are done."""

    def __init__(self, asked: Asked, iterables: Sequence[object]) -> None:
        from workers.bar import Bar  # here, because rich is slow to import

        self._bar = Bar("map", asked, _length(iterables))

    def counting(self, submit: Callable[[Sequence[Any]], F]) -> Callable[[Sequence[Any]], F]:
        """A `submit` whose futures are counted."""

        def counted(items: Sequence[Any]) -> F:
            future = submit(items)
            future.add_done_callback(lambda done: self._count(len(items), done))
            return future

        return counted

    def _count(self, items: int, future: Future[Any]) -> None:
        if not future.cancelled():
            failed = future.exception() is not None or future.result()[1] is not None
            self._bar.advance(items, int(failed))

    def shown(self, results: Iterator[T]) -> Generator[T, None, None]:
        """The results; the bar is there while they are taken."""
        self._bar.open()
        try:
            yield from results
        finally:
            self._bar.close()


def _length(iterables: Sequence[object]) -> int | None:
    """How many items the shortest of them has, if all of them know."""
    lengths = [length_hint(one, -1) for one in iterables]
    return None if not lengths or min(lengths) < 0 else min(lengths)
