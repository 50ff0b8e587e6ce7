"""Places that a bus cannot use: small, read-only or foreign ones. Made as root, or the test fails.

CI runs as root. Without the privilege `mount` and `unshare` fail loudly, and so does the test.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.children import Child

NOBODY = 65_534
PROGRAM_TIMEOUT_S = 40.0


def run(*command: str) -> str:
    """Runs a system command; its failure is the test's."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=PROGRAM_TIMEOUT_S)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr.strip()} (run tests as root)"
    return done.stdout


@contextmanager
def small_disk(path: Path, size: str) -> Iterator[Path]:
    """A filesystem of that size at `path`, gone with the block."""
    path.mkdir()
    run("mount", "-t", "tmpfs", "-o", f"size={size},mode=0700", "bus-test", str(path))
    try:
        yield path
    finally:
        run("umount", "--lazy", str(path))  # lazily: a process that was killed may still end


@contextmanager
def read_only(path: Path) -> Iterator[Path]:
    """The same files at `path`, which nobody can write, root included."""
    run("mount", "--bind", str(path), str(path))
    try:
        run("mount", "-o", "remount,bind,ro", str(path))
        yield path
    finally:
        run("umount", "--lazy", str(path))


@contextmanager
def public_directory() -> Iterator[Path]:
    """A directory that every user can reach, unlike pytest's."""
    with tempfile.TemporaryDirectory(prefix="bus-test-") as name:
        path = Path(name)
        path.chmod(0o755)
        yield path


def fill(path: Path) -> Path:
    """A file that leaves no byte free on the filesystem of `path`."""
    ballast = path / "ballast"
    with ballast.open("wb", buffering=0) as file:
        for size in (1 << 20, 4096):
            try:
                while file.write(b"\0" * size):
                    pass
            except OSError:
                continue
    return ballast


def as_user(uid: int, body: Callable[[], object]) -> Any:
    """What `body` returns, or the class and text of its error, in a process of another user."""

    def child(report: Callable[[Any], None]) -> None:
        os.setgroups([])
        os.setgid(uid)
        os.setuid(uid)
        try:
            report(body())
        except Exception as error:  # noqa: BLE001 - which one is the outcome of the test
            report([type(error).__name__, str(error)])

    process = Child(child)
    try:
        return process.next()
    finally:
        process.end()


def program(source: str, *wrapper: str) -> tuple[Any, str]:
    """Runs a Python program under a command such as unshare; its JSON, and what it logged."""
    command = [*wrapper, sys.executable, "-c", source]
    root = Path(__file__).resolve().parents[2]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=root,
        start_new_session=True,
    ) as process:
        try:
            out, err = process.communicate(timeout=PROGRAM_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            raise
    assert process.returncode == 0, err
    return json.loads(out), err
