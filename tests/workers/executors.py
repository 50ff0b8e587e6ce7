"""What tests of executors share."""

import os
import tempfile
from pathlib import Path

from tests.waiting import eventually
from tests.workers.rig import is_alive
from workers.board import paths

ROOT = Path(__file__).resolve().parents[2]


def homes() -> set[Path]:
    """The directories of private buses of this process."""
    return set(Path(tempfile.gettempdir()).glob(f"bus-executor-{os.getpid()}-*"))


def assert_gone(pids: list[int]) -> None:
    """Nothing of executors is left."""
    eventually(lambda: not any(map(is_alive, pids)), what=f"the end of workers {pids}")
    assert not homes()
    assert not [path for path in paths() if f"-{os.getpid()}-" in path.name]


def open_gate(path: Path) -> None:
    path.touch()
