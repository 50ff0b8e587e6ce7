"""A client that writes random bytes over everything it can write."""

import os
import random
from pathlib import Path

import bus
from bus.directory import BusDirectory
from tests.children import Report


def shared_areas(part: str) -> list[tuple[int, int, str]]:
    """The writable shared mappings of this process whose files have `part` in their path."""
    found = []
    for line in Path("/proc/self/maps").read_text().splitlines():
        words = line.split(maxsplit=5)
        if len(words) == 6 and words[1].startswith("rw-s") and part in words[5]:
            start, end = (int(word, 16) for word in words[0].split("-"))
            found.append((start, end - start, words[5]))
    return found


def scribble(part: str, seed: int) -> None:
    """Random bytes over every such mapping, through /proc/self/mem: as a wild pointer would."""
    generator = random.Random(seed)
    with open("/proc/self/mem", "r+b", buffering=0) as memory:
        for start, size, _ in shared_areas(part):
            for at in range(0, size, 1 << 16):
                memory.seek(start + at)
                memory.write(generator.randbytes(min(1 << 16, size - at)))


def attach_and_scribble(path: Path, report: Report, seed: int) -> None:
    """Sends one record, reports, and then spoils all it has mapped, again and again."""
    producer = bus.Producer(path, acks=1)
    producer.send("t", b"an honest record")
    with BusDirectory.open(path) as directory:
        hot = directory.default_hot_path()  # what it moves to begins with the same
    report("attached")
    while True:
        scribble(str(hot), seed)
        report("scribbled")
        seed += 1
        if os.getppid() == 1:
            return
