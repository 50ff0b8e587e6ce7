"""A producer is killed while it holds the partition's lock: when does another's send return?"""

import os
import random
import signal
import time

import bus
from benchmarks.handles import status, topic
from benchmarks.processes import forked
from benchmarks.stage import Stage
from benchmarks.targets import Target, at_share, median

NAME = "recovery"
TITLE = "SIGKILL inside an append, then a send by another process"
#: Copying this much takes most of a producer's time, so many kills hit the critical section.
RECORD_BYTES = 64 << 10
#: The survivor sends so much first: it has mapped the whole ring, as whoever sends steadily has.
WARM_BYTES = 256 << 20
MEASURE = "next send after a kill inside append"
#: Kills a round that hit the critical section: in five rounds enough for a p99.
KILLS = 40
KILLS_QUICK = 4
#: Kills that missed it are repeated, but not for ever.
TRIES = 6
RUN_S = (0.02, 0.05)

TARGETS = (
    Target("next send after a kill inside append, median, ms", median(MEASURE), 5, True),
    Target("next send after a kill inside append, p99, ms", at_share(MEASURE, 0.99), 5, True),
)


def run(stage: Stage) -> None:
    """Counts only the kills after which the lock had to be handed on by the kernel."""
    random_numbers = random.Random(1)
    with (
        topic(stage.path, durability="memory", overflow="drop") as name,
        bus.Producer(stage.path, acks=1) as survivor,
    ):
        for _ in range(WARM_BYTES // RECORD_BYTES):
            survivor.send(name, bytes(RECORD_BYTES))
        wanted = KILLS_QUICK if stage.quick else KILLS
        for _ in stage.in_turns(NAME):
            hits = 0
            for _ in range(TRIES * wanted):
                taken = _one_kill(stage, name, survivor, random_numbers.uniform(*RUN_S))
                if taken is not None:
                    stage.results.add(MEASURE, "bus", "ms", taken)
                    hits += 1
                if hits == wanted:
                    break


def _one_kill(stage: Stage, name: str, survivor: bus.Producer, run_s: float) -> float | None:
    """Milliseconds from the kill to the end of the survivor's send; None if it hit outside."""
    before = _deaths(stage)
    ready, writer = os.pipe()
    with forked(lambda: _send_for_ever(stage, name, writer)) as victim:
        os.read(ready, 1)
        time.sleep(run_s)
        start = time.monotonic()
        os.kill(victim, signal.SIGKILL)
        survivor.send(name, b"after").get(10)
        milliseconds = (time.monotonic() - start) * 1000
    os.close(ready)
    os.close(writer)
    return milliseconds if _deaths(stage) > before else None


def _deaths(stage: Stage) -> int:
    deaths: int = status(stage.path)["counters"]["deaths_repaired"]
    return deaths


def _send_for_ever(stage: Stage, name: str, ready: int) -> None:
    payload = bytes(RECORD_BYTES)
    producer = bus.Producer(stage.path, acks=1)
    producer.send(name, payload).get(10)
    os.write(ready, b"x")
    while True:
        producer.send(name, payload)
