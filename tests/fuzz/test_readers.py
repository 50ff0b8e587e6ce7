"""Damaged segments and control pages: no reader, writer or search goes beyond its memory."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.fuzz.build import build_fuzzer

#: How long the loop runs; `tox -e fuzz` asks for longer, and for another seed each time.
SECONDS = int(os.environ.get("BUS_FUZZ_S", "3"))
SEED = int(os.environ.get("BUS_FUZZ_SEED", "1"))
#: An idle machine makes about a hundred times as many.
EXECUTIONS_MIN = 500


@pytest.mark.timeout(SECONDS + 300)
def test_damaged_segments_and_control_pages_harm_no_reader(tmp_path: Path) -> None:
    program = build_fuzzer(tmp_path)
    done = subprocess.run(
        [str(program), str(SEED), str(SECONDS)],
        capture_output=True,
        text=True,
        timeout=SECONDS + 60,
        env=os.environ | {"ASAN_OPTIONS": "hard_rss_limit_mb=1024"},
    )
    assert done.returncode == 0, f"seed {SEED}: {done.stdout}\n{done.stderr}"
    print(done.stdout)
    assert int(done.stdout.split()[0]) > EXECUTIONS_MIN
