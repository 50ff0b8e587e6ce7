"""A work queue: three workers share the jobs of one partition; one is killed, and nothing is lost.

    python examples/work_queue.py [DIR]

    jobs (1 partition) ──► group "workers": each job to one worker, acknowledged by itself

Each worker doubles numbers. A job that fails comes again a moment later; one that fails three times
is given up. What the killed worker was working on goes to the others at once.

DIR is a directory for the bus in which no broker runs; without it, a temporary one is used.
"""

import os
import signal
import subprocess
import sys
import tempfile

import bus

JOBS = 300
WORKERS = 3
#: this one never works out
POISON = 13
TRIES = 3


def work(directory: str) -> None:
    """One worker: doubles numbers, until nothing came for a second."""
    jobs = bus.ShareConsumer(
        "jobs", bootstrap_servers=directory, group_id="workers", consumer_timeout_ms=1000
    )
    with jobs, bus.Producer(directory) as results:
        for job in jobs:
            number = int(job.value)
            if number == POISON:
                if jobs.attempts(job).failure + 1 < TRIES:
                    jobs.nack(job, delay_ms=20)
                else:
                    jobs.reject(job)
                continue
            if number == JOBS // 2 and jobs.attempts(job).crash == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            results.send("doubled", b"%d" % (number * 2)).get()
            jobs.ack(job)


def main(directory: str) -> None:
    """Run a broker and the workers, and count what they did."""
    with bus.Broker(directory), bus.Producer(directory) as producer:
        for number in range(JOBS):
            producer.send("jobs", b"%d" % number)
        producer.send("doubled", b"0")  # makes the topic
        command = [sys.executable, __file__, directory, "work"]
        workers = [subprocess.Popen(command) for _ in range(WORKERS)]
        codes = [worker.wait() for worker in workers]
        with bus.Consumer(
            "doubled", bootstrap_servers=directory, auto_offset_reset="earliest"
        ) as consumer:
            found = consumer.poll(1000, max_records=10 * JOBS)
            doubled = {int(record.value) for records in found.values() for record in records}
    print(f"{codes.count(-signal.SIGKILL)} worker was killed at its work")
    print(f"{len(doubled)} of {JOBS} jobs are done; job {POISON} failed {TRIES} times")
    if doubled != {number * 2 for number in range(JOBS) if number != POISON}:
        sys.exit("a job was lost")


if __name__ == "__main__":
    if len(sys.argv) == 3:
        work(sys.argv[1])
    else:
        with tempfile.TemporaryDirectory() as temporary:
            main(sys.argv[1] if len(sys.argv) > 1 else temporary)
