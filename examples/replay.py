"""Reads a log again: from an offset, and from a moment in time.

    python examples/replay.py [DIR]

Records stay in the log when they have been read, so any consumer may go back. DIR is a directory
for the bus in which no broker runs; without it, a temporary one is used.
"""

import sys
import tempfile
import time

import bus

PARTITION = bus.TopicPartition("events", 0)
EVENTS = 10


def values(consumer: bus.Consumer) -> list[str]:
    """Everything from the consumer's position to the end of the log."""
    return [record.value.decode() for record in consumer]


def main(directory: str) -> None:
    """Run a broker, send some events, read the last ones twice."""
    started_ms = int(time.time() * 1000)
    with bus.Broker(directory):
        with bus.Producer(directory) as producer:
            sent = [
                producer.send("events", f"event {n}".encode(), timestamp_ms=started_ms + n)
                for n in range(EVENTS)
            ]
        with bus.Consumer(bootstrap_servers=directory, consumer_timeout_ms=100) as consumer:
            consumer.assign([PARTITION])

            consumer.seek(PARTITION, sent[7].offset)
            by_offset = values(consumer)

            found = consumer.offsets_for_times({PARTITION: started_ms + 6})[PARTITION]
            if found is None:
                sys.exit("no event is so young")
            consumer.seek(PARTITION, found.offset)
            by_time = values(consumer)

            consumer.seek_to_beginning(PARTITION)
            everything = values(consumer)
    print(f"from offset {sent[7].offset}: {', '.join(by_offset)}")
    print(f"from 6 ms after the start: {', '.join(by_time)}")
    print(f"from the beginning: {len(everything)} events")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        main(sys.argv[1] if len(sys.argv) > 1 else temporary)
