"""What becomes of an executor whose program is interrupted or killed."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.buses import bus_ids, bus_processes, shared_objects
from tests.waiting import eventually
from tests.workers import tasks
from tests.workers.executors import ROOT
from tests.workers.rig import is_alive
from workers import board, private_bus

PROGRAM = """
import signal
import sys
from pathlib import Path
from tests.workers import tasks
from workers import Executor

signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background ignores it
if __name__ == "__main__":
    with Executor(1) as executor:
        executor.submit(tasks.nothing).result()
        print(*executor.pids(), flush=True)
        executor.submit(tasks.wait_for_file, Path(sys.argv[1])).result()
        executor.submit(tasks.nothing).result()
"""


def started(tmp_path: Path) -> tuple["subprocess.Popen[str]", int]:
    """A program whose one worker waits for a file "gate"; and that worker."""
    script = tmp_path / "program.py"
    script.write_text(PROGRAM)
    program = subprocess.Popen(
        [sys.executable, script, tmp_path / "gate"],
        env={**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert program.stdout is not None
    worker = int(program.stdout.readline())
    eventually(lambda: tasks.begun(tmp_path / "gate"), 30.0)
    return program, worker


def test_ctrl_c_ends_the_wait_and_the_program_when_the_task_is_done(tmp_path: Path) -> None:
    program, worker = started(tmp_path)
    program.send_signal(signal.SIGINT)
    (tmp_path / "gate").touch()
    _, errors = program.communicate(timeout=40)
    assert errors.rstrip().endswith("KeyboardInterrupt")
    assert program.returncode == -signal.SIGINT
    assert not is_alive(worker)
    assert not list(tmp_path.glob("bus-executor-*"))


def test_after_a_kill_workers_and_broker_end_and_the_next_one_cleans_up(tmp_path: Path) -> None:
    program, worker = started(tmp_path)
    program.kill()
    (tmp_path / "gate").touch()
    program.communicate(timeout=40)
    (home,) = tmp_path.glob("bus-executor-*")
    eventually(lambda: not is_alive(worker), 30.0)
    assert not list(Path("/dev/shm").glob(f"workers-*-{program.pid}-*"))
    eventually(lambda: not bus_processes(home / "bus"), 30.0)
    assert shared_objects(bus_ids(home)) == []
    private_bus.sweep(tmp_path)
    assert home.exists()  # it is young
    os.utime(home, (0, 0))
    private_bus.sweep(tmp_path)
    assert not home.exists()


@pytest.mark.parametrize("what", ["workers", "broker", "fork server"])
def test_when_all_are_killed_at_once_nothing_stays_in_memory(tmp_path: Path, what: str) -> None:
    program, worker = started(tmp_path)
    (home,) = tmp_path.glob("bus-executor-*")
    brokers = bus_processes(home / "bus")
    doomed = {program.pid, worker}
    if what != "workers":
        doomed |= {process.pid for process in brokers}
    if what == "fork server":
        doomed |= {child.pid for child in psutil.Process(program.pid).children(recursive=True)}
    for pid in doomed:
        os.kill(pid, signal.SIGSTOP)  # none of them sees another one's end
    for pid in doomed:
        os.kill(pid, signal.SIGKILL)
    program.communicate(timeout=40)
    eventually(lambda: not is_alive(worker), 30.0)
    eventually(lambda: not bus_processes(home / "bus"), 30.0)
    os.utime(home, (0, 0))
    ids = bus_ids(home)
    assert what != "workers" or shared_objects(ids) == []
    private_bus.sweep(tmp_path)
    assert shared_objects(ids) == []
    assert not home.exists()
    board.sweep()
    assert not list(Path("/dev/shm").glob(f"workers-*-{program.pid}-*"))
