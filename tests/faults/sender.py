"""A producer that keeps a diary of what was acknowledged, and is killed at any moment.

    python -m tests.faults.sender DIR TOPIC ACKS SEED DIARY

A line of the diary, "PARTITION OFFSET SEQUENCE", is written after the acknowledgement. It stays
when the writer is killed, for the kernel has it. The payload follows from seed and sequence, so
that a reader can tell every record that was sent from one that never was.
"""

import hashlib
import os
import random
import struct
import sys
from collections.abc import Iterator

import bus

PARTITIONS = 4
#: Most bytes of a payload: with segments of 1 MiB, every hundred records or so a segment rolls.
PAYLOAD_BYTES_MAX = 20_000
#: Most records that wait for their acknowledgement together.
_AT_ONCE = 20
#: Longest wait for one acknowledgement, in seconds: longer than a broker takes to start.
_ACK_S = 30.0
_HEAD = struct.Struct("<QQ")


def payload(seed: int, sequence: int) -> bytes:
    """Seed, sequence, and bytes of a length that both decide."""
    stream = hashlib.shake_128(_HEAD.pack(seed, sequence))
    size = int.from_bytes(stream.digest(2), "little") % PAYLOAD_BYTES_MAX
    return _HEAD.pack(seed, sequence) + stream.digest(size)


def origin(value: bytes) -> tuple[int, int]:
    """Seed and sequence of a payload."""
    seed, sequence = _HEAD.unpack_from(value)
    return int(seed), int(sequence)


def _acknowledged(
    producer: bus.Producer, topic: str, seed: int, dice: random.Random
) -> Iterator[tuple[int, int, int]]:
    """Sends for ever; yields (partition, offset, sequence) of what was acknowledged."""
    sequence = 0
    while True:
        numbers = range(sequence, sequence + dice.randrange(1, _AT_ONCE))
        sequence = numbers.stop
        partition = dice.randrange(PARTITIONS)
        values = [payload(seed, number) for number in numbers]
        if dice.random() < 0.25:
            future = producer.send_many(topic, values, partition=partition)
            yield partition, future.get(timeout=_ACK_S).offset, numbers[-1]
            continue
        futures = [producer.send(topic, value, partition=partition) for value in values]
        for number, future in zip(numbers, futures, strict=True):
            yield partition, future.get(timeout=_ACK_S).offset, number


def main() -> None:
    """Send until killed."""
    path, topic, acks, seed, diary = sys.argv[1:]
    fd = os.open(diary, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    with bus.Producer(path, client_id=f"sender-{seed}", acks="all" if acks == "all" else 1) as one:
        for line in _acknowledged(one, topic, int(seed), random.Random(int(seed))):
            os.write(fd, "{} {} {}\n".format(*line).encode())


if __name__ == "__main__":
    main()
