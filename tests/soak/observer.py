"""Looks at commits, log ends and memory once a second.

python -m tests.soak.observer DIRECTORY ORDERS
"""

import time
from pathlib import Path
from typing import Final

import psutil

import bus
from bus.errors import BusError
from tests.faults.processes import BROKER, REPLICA, processes
from tests.soak.history import MEMORY, SAMPLE, START
from tests.soak.worker import Worker

_LOOK_S: Final = 1.0
_PAUSE_S: Final = 0.1


def _look_at_groups(worker: Worker, admin: bus.Admin) -> None:
    asked = time.monotonic_ns()
    for group in sorted({one["group_id"] for one in admin.list_groups()}):
        committed = admin.list_group_offsets(group).get(group, {})
        for where, place in committed.items():
            end = _ends(admin, where)
            if end is not None:
                worker.diary.write(SAMPLE, group, *where, place.offset, end, asked)


def _ends(admin: bus.Admin, where: bus.TopicPartition) -> int | None:
    described = admin.describe_topics([where.topic])[0]["partitions"]
    return next(
        (one["log_end_offset"] for one in described if one["partition_index"] == where.partition),
        None,
    )


def _look_at_starts(worker: Worker, admin: bus.Admin) -> None:
    for topic in admin.describe_topics():
        for one in topic["partitions"]:
            worker.diary.write(
                START, topic["name"], one["partition_index"], one["log_start_offset"]
            )


def _look_at_memory(worker: Worker) -> None:
    for role, process in processes(Path(worker.path)):
        if role in (BROKER, REPLICA):
            try:
                resident, descriptors = process.memory_info().rss, process.num_fds()
                life = time.time() - process.create_time()
            except psutil.Error:
                continue  # it has just been killed
            worker.diary.write(MEMORY, role, process.pid, resident, descriptors, round(life, 1))


def main() -> None:
    """Until the worker shall end."""
    worker = Worker()
    while worker.goes_on:
        try:
            with worker.operation():
                admin = bus.Admin(worker.path, client_id=worker.name)
            with admin:
                while worker.goes_on:
                    with worker.operation():
                        _look_at_memory(worker)
                        _look_at_starts(worker, admin)
                        _look_at_groups(worker, admin)
                    time.sleep(_LOOK_S)
        except BusError as error:
            worker.note_error("observe", error)
            time.sleep(_PAUSE_S)


if __name__ == "__main__":
    main()
