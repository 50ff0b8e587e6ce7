"""Processes that are stopped (SIGSTOP) while they hold a lock of the bus.

`hold` takes a shared mutex as the C library would and stops its own process in it: for any role.
`stop_in_append` lets a producer run instruction by instruction, by ptrace, until it has taken the
partition's lock in a real append, and a given number of instructions further.
"""

import ctypes
import mmap
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Final

import bus
from bus.client import Client
from bus.liveness import ROLE_ADMIN
from bus.native.core import LAYOUT, Partition
from tests.children import Child, Fork, Report
from tests.waiting import eventually

PARTITION_LOCK: Final = LAYOUT["bus_partition.lock"]
GROUP_LOCK: Final = LAYOUT["bus_members.lock"]
_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
_libc.ptrace.restype = ctypes.c_long
_TRACEME, _SINGLESTEP, _DETACH = 0, 9, 17
#: instructions from the end of a `kill` to the lock of an append: some ten thousand
_STEPS_MAX: Final = 3_000_000


def hold(file: Path, lock_at: int, inside: Callable[[], object] = lambda: None) -> None:
    """Takes the mutex in that file, stops this process, and gives it back once it continues."""
    with file.open("r+b") as opened:
        mapped = mmap.mmap(opened.fileno(), 0)
    mutex = (ctypes.c_char * 64).from_buffer(mapped, lock_at)
    assert _libc.pthread_mutex_lock(ctypes.byref(mutex)) == 0
    inside()
    os.kill(os.getpid(), signal.SIGSTOP)
    assert _libc.pthread_mutex_unlock(ctypes.byref(mutex)) == 0


def is_stopped(pid: int) -> bool:
    """True if the process does nothing until somebody lets it continue."""
    return "T (stopped)" in Path(f"/proc/{pid}/status").read_text()


def wait_stopped(pid: int) -> None:
    """Returns once the process is stopped."""
    eventually(lambda: is_stopped(pid), what=f"process {pid} is stopped")


def control_file(path: Path, topic: str, partition: int = 0) -> Path:
    """The control page of a partition of a bus that runs."""
    with Client.connect(path, role=ROLE_ADMIN, client_id="finder", autostart=False) as client:
        topic_id = client.topic(topic).id
        runtime = client.directory.read_runtime()
    assert runtime is not None
    return Path(runtime.hot_dir) / f"{topic_id}-{partition}.ctl"


def sender(path: Path, fork: Fork, values: list[bytes], name: str = "sloth") -> Child:
    """A producer that has sent values[0] to t-0 and stops before it sends the others."""

    def send(report: Report) -> None:
        with bus.Producer(path, client_id=name, acks=1, autostart=False) as producer:
            producer.send("t", values[0], partition=0)
            report("ready")
            _libc.ptrace(_TRACEME, 0, None, None)
            os.kill(os.getpid(), signal.SIGSTOP)
            for value in values[1:]:
                report(producer.send("t", value, partition=0).get(timeout=20).offset)

    child = fork(send)
    assert child.next() == "ready"
    os.waitpid(child.pid, 0)
    return child


def stop_in_append(child: Child, log: Partition, further: int = 0) -> int:
    """Stops the sender in its next append; returns how many instructions it was in the lock."""
    inside = 0
    for _ in range(_STEPS_MAX):
        _step(child.pid)
        if log.lock_owner_tid != child.pid:
            assert not inside, f"the append takes only {inside} instructions"
            continue
        inside += 1
        if inside > further:
            break
    assert inside > further, "the sender never took the lock"
    _libc.ptrace(_DETACH, child.pid, None, signal.SIGSTOP)
    wait_stopped(child.pid)
    return inside


def _step(pid: int) -> None:
    assert _libc.ptrace(_SINGLESTEP, pid, None, None) == 0, os.strerror(ctypes.get_errno())
    _, status = os.waitpid(pid, 0)
    assert os.WIFSTOPPED(status), f"the sender ended: {status}"
