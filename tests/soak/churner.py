"""Makes and deletes topics, adds partitions, deletes records.

python -m tests.soak.churner DIRECTORY ORDERS
"""

import time
from typing import Final

import bus
from bus.errors import BusError
from tests.soak.history import ACTION, DELETED, SEND, STORED, TOPIC
from tests.soak.payload import Name, key_of, value_of
from tests.soak.worker import Worker

_PAUSE_S: Final = (0.3, 2.0)
_TOPICS_MAX: Final = 3
_PARTITIONS_MAX: Final = 6
_RECORDS: Final = 40
_CONFIGS: Final = {"segment.bytes": 1 << 20, "hot.bytes": 4 << 20}


class Churner:
    """One change at a time."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._topics: list[str] = []
        self._made = 0
        self._sequence = 0

    def run(self) -> None:
        """Until the worker shall end."""
        while self._worker.goes_on:
            change = self._worker.dice.choice(
                (self._create, self._delete, self._delete_records, self._add_partitions)
            )
            try:
                with self._worker.operation(), bus.Admin(self._worker.path) as admin:
                    change(admin)
            except BusError as error:
                self._worker.note_error("change", error)
            time.sleep(self._worker.dice.uniform(*_PAUSE_S))

    def _create(self, admin: bus.Admin) -> None:
        """A topic with some records of this worker's own."""
        if len(self._topics) >= _TOPICS_MAX:
            return
        self._made += 1
        name = f"{self._worker.orders['prefix']}{self._worker.orders['id']}-{self._made}"
        durability = self._worker.dice.choice(("replicated", "memory"))
        configs = _CONFIGS | {"durability": durability}
        self._worker.diary.write(TOPIC, name, configs)
        self._topics.append(name)
        admin.create_topics([bus.NewTopic(name, 2, topic_configs=configs)])
        first = self._sequence
        self._sequence += _RECORDS
        producer_id = self._worker.orders["id"]
        names = [Name(producer_id, number) for number in range(first, self._sequence)]
        sizes = [self._worker.dice.randrange(3000) for _ in names]
        with bus.Producer(self._worker.path, client_id=self._worker.name, acks=1) as producer:
            self._worker.diary.write(SEND, producer_id, 1, name, first, _RECORDS)
            futures = [
                producer.send(name, value_of(one, size), key=key_of(one, size, None))
                for one, size in zip(names, sizes, strict=True)
            ]
            rows = [
                [one.sequence, future.partition, future.offset]
                for one, future in zip(names, futures, strict=True)
            ]
            self._worker.diary.write(STORED, producer_id, rows)

    def _delete(self, admin: bus.Admin) -> None:
        if self._topics:
            name = self._topics.pop(0)
            self._worker.diary.write(DELETED, name)  # before it happens: it may, whatever comes
            admin.delete_topics([name])

    def _delete_records(self, admin: bus.Admin) -> None:
        """A part of what is in the one topic whose records may go."""
        topic = self._worker.orders["shrinks"]
        for one in admin.describe_topics([topic])[0]["partitions"]:
            start, end = one["log_start_offset"], one["log_end_offset"]
            offset = self._worker.dice.randint(start, max(start, end - (end - start) // 3))
            where = bus.TopicPartition(topic, one["partition_index"])
            began = time.monotonic_ns()
            admin.delete_records({where: offset})
            self._worker.diary.write(ACTION, "delete records", began, [*where, offset])

    def _add_partitions(self, admin: bus.Admin) -> None:
        topic = self._worker.orders["grows"]
        count = len(admin.describe_topics([topic])[0]["partitions"])
        if count < _PARTITIONS_MAX:
            began = time.monotonic_ns()
            admin.create_partitions({topic: count + 1})
            self._worker.diary.write(ACTION, "add a partition", began, [topic, count + 1])


if __name__ == "__main__":
    Churner(Worker()).run()
