"""Pools on a bus of the test: records in, a file of what handlers did, dead letters out."""

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bus
from tests.waiting import eventually
from tests.workers import handlers
from tests.workers.rig import is_alive, soon
from workers import Pool, Retry
from workers.board import paths

#: Retries without pauses to speak of.
QUICK = Retry(first_delay_s=0.001, longest_delay_s=0.01)
DONE_WITHIN_S = 50.0


@dataclass(frozen=True)
class Bench:
    """A pool at work."""

    pool: Pool
    file: Path

    def settled(self, count: int, deadline_s: float = DONE_WITHIN_S) -> None:
        """Waits until so many records were done or given up."""

        def enough() -> bool:
            found = self.pool.statistics()
            return found.done + found.dead >= count

        eventually(enough, deadline_s, f"{count} records are settled")

    def said(self, word: str) -> list[list[str]]:
        """The lines of the handlers that begin with `word`."""
        return [line for line in handlers.lines(self.file) if line[0] == word]

    def numbers(self, word: str) -> list[int]:
        """The records of those lines."""
        return [int(line[1]) for line in self.said(word)]

    def until(self, word: str, count: int = 1) -> None:
        """Waits for so many such lines."""
        eventually(lambda: len(self.said(word)) >= count, DONE_WITHIN_S, f"{count} times {word}")


@dataclass(frozen=True)
class Dead:
    """A dead letter."""

    value: bytes
    key: bytes | None
    headers: dict[str, str]


@dataclass(frozen=True)
class Shop:
    """A topic of its own on a bus, the group of the same name, and a directory for files."""

    directory: Path
    topic: str
    files: Path
    group: str = ""

    @property
    def dead_letter_topic(self) -> str:
        return f"dlq.{self.topic}.{self.group or self.topic}"

    def send(self, count: int, first: int = 0) -> None:
        """So many records, counted up from `first`."""
        numbers = range(first, first + count)
        with bus.Producer(self.directory) as producer:
            producer.send_many(self.topic, [b"%d" % n for n in numbers]).get(20.0)

    @contextmanager
    def at_work(
        self, handler: Callable[..., Any], name: str = "out", **options: Any
    ) -> Iterator[Bench]:
        """A started pool whose handler gets the file `name`; nothing is left after the block."""
        file = self.files / name
        given: dict[str, Any] = {
            "processes": 2,
            "retry": QUICK,
            "group_id": self.topic,
            "dead_letter": False,
            **options,
        }
        called = handler if "init" in given else functools.partial(handler, file=file)
        pool = Pool(self.topic, called, bootstrap_servers=self.directory, **given)
        bench = Bench(pool, file)
        try:
            with pool:
                yield bench
        finally:
            pids = [worker.pid for worker in pool.statistics().workers]
            soon(lambda: not any(map(is_alive, pids)), "the end of the workers")
            assert pool._supervisor.board.path not in paths()

    def dead_letters(self) -> list[Dead]:
        """All dead letters of the group."""
        place = bus.TopicPartition(self.dead_letter_topic, 0)
        found = []
        with bus.Consumer(bootstrap_servers=self.directory) as consumer:
            consumer.assign([place])
            consumer.seek_to_beginning()
            end = consumer.end_offsets([place])[place]
            while consumer.position(place) < end:
                for record in consumer.poll(1000).get(place, []):
                    headers = {name: (value or b"").decode() for name, value in record.headers}
                    found.append(Dead(record.value, record.key, headers))
        return found

    def until_all_done(self) -> None:
        """Waits until the group has nothing left to do."""
        with bus.Admin(self.directory) as admin:
            eventually(lambda: self._is_all_done(admin), DONE_WITHIN_S, "nothing is left to do")

    def _is_all_done(self, admin: bus.Admin) -> bool:
        """True if the committed offset is the log's end."""
        committed = admin.list_group_offsets(self.topic)[self.topic]
        [topic] = admin.describe_topics([self.topic])
        offsets = {place: found.offset for place, found in committed.items()}
        return all(
            offsets.get(bus.TopicPartition(self.topic, one["partition_index"]), 0)
            == one["log_end_offset"]
            for one in topic["partitions"]
        )
