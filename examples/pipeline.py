"""A pipeline of three processes: one sends lines, one counts their words, one adds the counts.

    python examples/pipeline.py [DIR]

    main ──"lines"──► count_words ──"counts"──► add_up ──"total"──► main

A record without a value (None) tells the next stage that nothing follows. Each stage is a consumer
group of its own, so a second run on the same directory goes on where the first one ended. DIR is a
directory for the bus in which no broker runs; without it, a temporary one is used.
"""

import multiprocessing
import sys
import tempfile
from collections.abc import Iterator

import bus

LINES = [f"line {number} has six words here" for number in range(1000)]
#: a stage that hears nothing for so long gives up instead of hanging, in ms
SILENCE_MS = 20_000


def values(directory: str, topic: str) -> Iterator[bytes]:
    """The values of a topic, up to the record without one."""
    with bus.Consumer(
        topic,
        bootstrap_servers=directory,
        group_id=f"pipeline-{topic}",
        auto_offset_reset="earliest",
        consumer_timeout_ms=SILENCE_MS,
    ) as consumer:
        for record in consumer:
            if record.value is None:
                return
            yield record.value
    raise TimeoutError(f"nothing came from {topic!r} for {SILENCE_MS} ms")


def count_words(directory: str) -> None:
    """The second stage: how many words each line has."""
    with bus.Producer(directory) as producer:
        for line in values(directory, "lines"):
            producer.send("counts", str(len(line.split())).encode())
        producer.send("counts", None)


def add_up(directory: str) -> None:
    """The third stage: the sum of all counts."""
    total = sum(int(count) for count in values(directory, "counts"))
    with bus.Producer(directory) as producer:
        producer.send("total", str(total).encode())
        producer.send("total", None)


def main(directory: str) -> None:
    """Run a broker and the stages, feed the first one, print what the last one found."""
    context = multiprocessing.get_context("spawn")
    with bus.Broker(directory):
        stages = [
            context.Process(target=stage, args=(directory,)) for stage in (count_words, add_up)
        ]
        for stage in stages:
            stage.start()
        with bus.Producer(directory) as producer:
            producer.send_many("lines", [line.encode() for line in LINES])
            producer.send("lines", None)
        total = sum(int(value) for value in values(directory, "total"))
        for stage in stages:
            stage.join()
    expected = sum(len(line.split()) for line in LINES)
    print(f"{total} words in {len(LINES)} lines, counted in another process; {expected} expected")
    if total != expected:
        sys.exit("the totals differ")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        main(sys.argv[1] if len(sys.argv) > 1 else temporary)
