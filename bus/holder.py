"""Who holds up the others: from a thread id or a process id to words that a person can act on.

A stopped process (SIGSTOP, Ctrl-Z, a debugger, a frozen cgroup) lives and keeps what it holds.
Nobody takes that away from it; but whoever waits in vain says its pid, its name on the bus and its
state, and what to do. For messages only: process ids repeat, and a state is old once it is read.
"""

from pathlib import Path
from typing import Final, NamedTuple

from bus.liveness import client_rows
from bus.native.core import Partition, Table

#: the letters of /proc/PID/status for a process that does nothing until somebody lets it
_STOPPED: Final = ("T", "t")
#: and of one that nothing can wake, not even a kill, before its disk answers
_DISK: Final = "D"
#: A sync that takes longer is worth a word, in ms.
SLOW_SYNC_MS: Final = 100.0


class Holder(NamedTuple):
    """A process as /proc shows it. `state` is like "T (stopped)", "" if the process is gone."""

    pid: int
    name: str
    state: str

    @property
    def is_stopped(self) -> bool:
        """True if it was stopped when it was looked at."""
        return self.state[:1] in _STOPPED


def look_at(tid: int) -> Holder:
    """The process that the thread `tid` (or the process with this pid) belongs to."""
    try:
        lines = Path(f"/proc/{tid}/status").read_text(errors="replace").splitlines()
    except OSError:
        return Holder(tid, "", "")
    status = {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}
    return Holder(int(status.get("Tgid", tid)), status.get("Name", ""), status.get("State", ""))


def describe_thread(tid: int, control: Table | None = None, client_id: str = "") -> str:
    """Like "pid 12 (python3, client 'snail', state T (stopped))", of the thread's process.

    `control` is bus.ctl, where the client's name is looked up unless `client_id` gives it.
    """
    if tid == 0:
        return "a process that has just released it"
    holder = look_at(tid)
    if not holder.state:
        return f"thread {tid}, which is gone"
    known = client_id or (_names_of(holder.pid, control) if control is not None else "")
    client = f", client {known!r}" if known else ""
    return f"pid {holder.pid} ({holder.name}{client}, state {holder.state})"


def _names_of(pid: int, control: Table) -> str:
    """What the process calls itself on the bus; the broker has no slot, but its pid is known."""
    names = sorted({row.client_id for row in client_rows(control) if row.pid == pid})
    return ", ".join(names)


def explain_lock(
    what: str, tid: int, waited_ms: float, control: Table | None = None, *, client_id: str = ""
) -> str:
    """The message of a LockTimeoutError: which lock, who holds it, and the way out."""
    holder = describe_thread(tid, control, client_id)
    return f"{what} was locked for {waited_ms:g} ms by {holder}; {way_out(tid)}"


def way_out(tid: int) -> str:
    """What to do about the holder of a lock."""
    holder = look_at(tid)
    if tid == 0 or not holder.state:
        return "try again"
    if holder.is_stopped:
        return (
            f"let it continue (kill -CONT {holder.pid}) or kill it: a dead holder is repaired at"
            " once, and nothing is lost"
        )
    return "it is very slow: wait longer, or kill it, for a dead holder is repaired at once"


def if_stopped(pid: int) -> str:
    """Words to follow a pid in a message: empty unless it is stopped, or its disk hangs."""
    holder = look_at(pid)
    if holder.is_stopped:
        return f" (state {holder.state}: let it continue with kill -CONT {pid}, or kill it)"
    if holder.state[:1] == _DISK:
        return f" (state {holder.state}: it waits for its disk)"
    return ""


def describe_replica(log: Partition) -> str:
    """Like "replica pid 12 is at offset 5 of 9, its last fdatasync took 3.1 ms", or worse."""
    pid, waited_ms = log.replica_pid, log.replica_sync_ms
    disk = f"its last fdatasync took {log.replica_fsync_ns / 1e6:.1f} ms"
    if waited_ms > SLOW_SYNC_MS:
        disk = f"it has waited {waited_ms / 1e3:.1f} s for its disk"
    where = f"is at offset {log.high_watermark} of {log.log_end_offset}"
    return f"replica pid {pid}{if_stopped(pid)} {where}, {disk}"
