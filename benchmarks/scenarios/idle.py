"""What a bus costs that nobody uses: processor time of broker, replicas and waiting consumers."""

import time

import bus
from benchmarks.handles import cpu_seconds, status, topic
from benchmarks.processes import Gate, run_together
from benchmarks.stage import Stage
from benchmarks.targets import Target, median

NAME = "idle"
TITLE = "8 partitions, 4 waiting consumers, nobody sends"
PARTITIONS = 8
CONSUMERS = 4
MEASURE = "idle, share of one core"
SETTLE_S = 1.5

TARGETS = (Target("idle bus, % of one core", median(MEASURE), 0.5, True),)


def run(stage: Stage) -> None:
    """Processor time over some seconds, of all processes of the bus and its consumers."""
    watch_s = 3.0 if stage.quick else 10.0
    for _ in stage.in_turns(NAME):
        with topic(stage.path, partitions=PARTITIONS) as name:
            percent = _watch(stage, name, watch_s)
        stage.results.add(MEASURE, "bus", "%", percent)


def _watch(stage: Stage, name: str, watch_s: float) -> float:
    def wait(gate: Gate) -> float:
        """A consumer of the group in a blocking poll; returns the processor time it used."""
        with bus.Consumer(name, bootstrap_servers=stage.path, group_id=f"idle-{name}") as consumer:
            consumer.poll(SETTLE_S * 1000)
            gate.wait()
            before = time.process_time()
            consumer.poll(watch_s * 1000)
            return time.process_time() - before

    def look(gate: Gate) -> float:
        """The same for the broker and its replicas."""
        gate.wait()
        now = status(stage.path)
        pids = {now["broker"]["pid"], *(replica["pid"] for replica in now["replicas"])}
        before = cpu_seconds(sorted(pids))
        time.sleep(watch_s)
        return cpu_seconds(sorted(pids)) - before

    used = run_together(*[wait] * CONSUMERS, look)
    return 100 * float(sum(used)) / watch_s
