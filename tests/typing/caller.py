"""A program that calls the bus; `mypy --strict` must accept it as it stands. It is never run."""

from collections.abc import Collection

import bus
import workers


class Printer(bus.ConsumerRebalanceListener):
    """Says what it gained and lost."""

    def on_partitions_revoked(self, revoked: Collection[bus.TopicPartition]) -> None:
        print("lost", revoked)

    def on_partitions_assigned(self, assigned: Collection[bus.TopicPartition]) -> None:
        print("gained", assigned)


def produce(directory: str) -> int:
    """Every way to send."""
    with bus.Producer(directory, acks="all", client_id="caller") as producer:
        future: bus.RecordFuture = producer.send("t", b"value", key=b"key", partition=0)
        producer.send("t", b"value", headers=[("name", b"text")], timestamp_ms=1)
        last = producer.send_many("t", [b"one", b"two"])
        future.add_callback(lambda metadata: print(metadata.offset))
        metadata: bus.RecordMetadata = last.get(timeout=1.0)
        producer.flush(timeout=1.0)
        partitions: set[int] = producer.partitions_for("t")
        return metadata.offset + len(partitions)


def produce_arrays(directory: str) -> None:
    """Formats by name, by object and by function; several buffers as one value."""
    with bus.Producer(directory, value_serializer="numpy", key_serializer=str.encode) as producer:
        producer.send("t", [1, 2], key="key")
    with bus.Producer(directory, value_serializer=bus.serializers.Pickle()) as producer:
        producer.send("t", bus.Parts([b"header", bytearray(8)], align=8))
    with bus.Consumer(
        "t", value_deserializer=bus.serializers.Json(), key_deserializer=bytes.decode
    ):
        pass


def consume(directory: str) -> int:
    """Polling, iterating, seeking and committing."""
    total = 0
    with bus.Consumer(
        "t", bootstrap_servers=directory, group_id="g", auto_offset_reset="earliest"
    ) as consumer:
        consumer.subscribe(["t"], listener=Printer())
        for partition, records in consumer.poll(timeout_ms=10, max_records=5).items():
            position: int = consumer.position(partition)
            consumer.seek(partition, position)
            consumer.commit({partition: bus.OffsetAndMetadata(records[-1].offset + 1, "")})
            end_offsets: dict[bus.TopicPartition, int] = consumer.end_offsets([partition])
            total += sum(end_offsets.values())
        for record in consumer:
            view: memoryview = record.view()
            total += len(view) + len(record.value) + record.offset
    return total


def administer(directory: str) -> list[str]:
    """Topics and a broker of one's own."""
    with bus.Broker(directory) as broker, bus.Admin(directory) as admin:
        print(broker.pid, broker.epoch)
        admin.create_topics([bus.NewTopic("t", 2, topic_configs={"durability": "memory"})])
        return list(admin.list_topics())


def handle(record: bus.ConsumerRecord) -> None:
    """A handler of a pool."""
    attempt: int = workers.current().attempt
    print(record.offset, attempt, workers.current().remaining_s)


def employ(directory: str) -> int:
    """A pool, what it tells, and its dead letters."""
    retry = workers.Retry(failure=3, give_up_on=(KeyError,))
    pool = workers.Pool("t", handle, processes=2, retry=retry, bootstrap_servers=directory)
    with pool:
        done: int = pool.statistics().done
    sent: workers.Redriven = workers.redrive("dlq.t.g", only=lambda letter: bool(letter.told))
    return done + sent.sent + len(workers.statistics())
