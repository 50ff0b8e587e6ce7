"""Runs a Python program as a user would, with warnings as errors."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TIMEOUT_S = 50.0


def run(*arguments: str | Path, cwd: Path) -> str:
    """What the program printed; fails the test with its stderr if its exit code is not 0.

    Its temporary files go to `cwd`, so that a test can see whether it removes them.
    """
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    done = subprocess.run(
        [sys.executable, "-W", "error", *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), "TMPDIR": str(cwd)},
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
