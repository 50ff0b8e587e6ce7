"""Sends a record and reads it back: the shortest program that uses the bus.

    python examples/quickstart.py [DIR]

DIR is a directory for the bus in which no broker runs; without it, a temporary one is used.
"""

import sys
import tempfile

import bus


def main(directory: str) -> None:
    """Run a broker, send one record, read what there is."""
    with bus.Broker(directory):
        with bus.Producer(directory) as producer:
            producer.send("test_topic", b"hello")
        with bus.Consumer(
            "test_topic",
            bootstrap_servers=directory,
            group_id="test_group",
            auto_offset_reset="earliest",
            consumer_timeout_ms=200,  # without it the loop waits for the next record, for ever
        ) as consumer:
            for message in consumer:
                print(message.value.decode("utf-8"))


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        main(sys.argv[1] if len(sys.argv) > 1 else temporary)
