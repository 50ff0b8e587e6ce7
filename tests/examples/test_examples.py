"""Every example does what its docstring says, ends by itself and leaves nothing behind."""

from pathlib import Path

import pytest

from tests.buses import bus_processes
from tests.examples.scripts import ROOT, run

EXAMPLES = sorted((ROOT / "examples").glob("*.py"))

#: What an example prints, in part.
PRINTS = {
    "fan_out": ["audit: 1000 orders by one member", "billing: 1000 orders"],
    "frames": ["100 frames of 640 x 480 pixels"],
    "parameter_sweep": ["(10, 90) was not tried: signal 9", "the best of 6 pairs is"],
    "pipeline": ["6000 words in 1000 lines"],
    "quickstart": ["hello"],
    "replay": [
        ": event 7, event 8, event 9",
        "from 6 ms after the start: event 6, event 7, event 8, event 9",
    ],
    "thumbnails": [
        "├── shrink: thumbnails:shrink in 2 workers",
        "40 thumbnails are on sheets, each of them once",
        "9216000 values of pixels were counted",
    ],
    "work_queue": ["1 worker was killed", "299 of 300 jobs are done; job 13 failed 3 times"],
    "worker_pool": [
        "workers crashed and were replaced: yes",
        "97 orders done, 3 dead letters",
        "LookupError: 2",
        "workers.errors.WorkerDied: 1",
        "3 sent again after the repair, and done",
    ],
}


def test_every_example_is_run_here() -> None:
    assert [path.stem for path in EXAMPLES] == sorted(PRINTS)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_runs_on_a_bus_of_its_own_and_removes_it(example: Path, tmp_path: Path) -> None:
    printed = run(example, cwd=tmp_path)
    for text in PRINTS[example.stem]:
        assert text in printed
    assert not list(tmp_path.iterdir())
    assert not bus_processes(tmp_path)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_can_be_run_again_on_the_same_directory(
    example: Path, bus_dir: Path, tmp_path: Path
) -> None:
    for _ in range(2):
        printed = run(example, bus_dir, cwd=tmp_path)
        for text in PRINTS[example.stem]:
            assert text in printed
