"""`python -m workers`: run, status, redrive, their output and exit codes."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

import bus
from tests.waiting import eventually
from tests.workers.pool_rig import DONE_WITHIN_S, Shop
from workers import statistics
from workers.cli.main import main

ROOT = Path(__file__).resolve().parents[2]

FLOW = """
import os
import workers

def double(number):
    return 2 * number

doubled = workers.Pipeline(os.environ["BUS_DIR"], name="p").source(range(20)).stage(double)
doubled.sink("doubled", values="json")
"""

SHOP = """
import os

def handle(record):
    if record.value == b"7":
        raise ValueError("no sevens")

def opens():
    return {}

def with_state(record, state):
    state["last"] = record.value
"""


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A directory with a module of handlers."""
    (tmp_path / "shop.py").write_text(SHOP)
    return tmp_path


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-W", "error", "-m", "workers", *arguments]


def environment(bus_dir: Path) -> dict[str, str]:
    return {**os.environ, "BUS_DIR": str(bus_dir), "PYTHONPATH": str(ROOT)}


def call(*arguments: str) -> Result:
    """The command, in this process."""
    return CliRunner().invoke(main, arguments)


@pytest.mark.timeout(150)
def test_a_pool_is_run_watched_and_drained_and_its_dead_letters_sent_again(
    bus_dir: Path, files: Path
) -> None:
    shop = Shop(bus_dir, "jobs", files)
    shop.send(20)
    words = command("run", "shop:handle", "-t", "jobs", "-n", "1", "--retries", "1", "-g", "jobs")
    with subprocess.Popen(
        words, cwd=files, env=environment(bus_dir), stderr=subprocess.PIPE, text=True
    ) as program:
        try:
            eventually(lambda: done_on(bus_dir) == 20, DONE_WITHIN_S, "all is done")
            told = call("status")
            assert told.exit_code == 0
            assert "shop:handle on jobs" in told.stdout
            assert "done 19, retried 0, dead 1" in told.stdout  # others may be listed as well
            listed = json.loads(call("status", "--json").stdout)
            [found] = [one for one in listed if one["description"].get("bus") == str(bus_dir)]
            assert (found["done"], found["workers"][0]["state"]) == (19, "waiting")
            program.send_signal(signal.SIGTERM)
            assert program.wait(DONE_WITHIN_S) == 0
        finally:
            program.kill()
        assert program.stderr is not None
        assert "failure: ValueError: no sevens; given up" in program.stderr.read()
    assert [dead.value for dead in shop.dead_letters()] == [b"7"]
    options = ["redrive", "dlq.jobs.jobs", "--dir", str(bus_dir)]
    again = call(*options, "--exception", "ValueError", "--json")
    assert json.loads(again.stdout) == {"sent": 1, "left": 0}
    assert call(*options).output == "sent again: 0, left: 0\n"


def test_a_pipeline_is_run_by_name_with_its_own_options(bus_dir: Path, files: Path) -> None:
    (files / "flow.py").write_text(FLOW)
    done = subprocess.run(
        command("run", "flow:doubled", "-q"),
        cwd=files,
        env=environment(bus_dir),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    with bus.Consumer(
        "doubled",
        bootstrap_servers=bus_dir,
        value_deserializer="json",
        auto_offset_reset="earliest",
        group_id="g",
        consumer_timeout_ms=300,
    ) as consumer:
        assert sorted(record.value for record in consumer) == [2 * n for n in range(20)]


def done_on(bus_dir: Path) -> int:
    mine = [one for one in statistics() if one.description.get("bus") == str(bus_dir)]
    return sum(one.done + one.dead for one in mine)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["run", "shop", "-t", "jobs"], "'shop' is not MODULE:HANDLER"),
        (["run", "nowhere:handle", "-t", "jobs"], "there is no module 'nowhere'"),
        (["run", "shop:nothing", "-t", "jobs"], "module 'shop' has no function 'nothing'"),
        (["run", "shop:with_state", "-t", "jobs"], "cannot be called as handler(record)"),
        (["run", "shop:handle", "-t", "jobs", "-n", "0"], "processes must be at least 1"),
        (["run", "shop:handle"], "Missing option '-t'"),
        (["run", "shop:handle", "-t", "a/b"], "a/b"),
    ],
)
def test_what_cannot_be_tried_is_said_in_a_line_and_exits_with_2(
    arguments: list[str], text: str, bus_dir: Path, files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(files))
    monkeypatch.setenv("BUS_DIR", str(bus_dir))
    monkeypatch.delitem(sys.modules, "shop", raising=False)
    done = call(*arguments)
    assert (done.exit_code, done.exc_info and done.exc_info[0]) == (2, SystemExit)
    assert text in done.output


def test_status_is_json_also_without_workers() -> None:
    done = call("status", "--json")
    assert done.exit_code == 0
    assert isinstance(json.loads(done.output), list)


def test_the_commands_are_listed_with_their_exit_codes() -> None:
    done = call("--help")
    assert "redrive" in done.output
    assert "Exit codes: 0 done; 1" in done.output
