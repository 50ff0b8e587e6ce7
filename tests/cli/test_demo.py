"""`bus demo` and `bus bench`: the main job, small; and what equal totals mean."""

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from bus.cli.demo import differences
from bus.demo.corpus import standard_library
from bus.demo.tally import Tally, count_tokens
from tests.cli.runs import answer, run
from tests.waiting import eventually


def test_the_demo_agrees_with_a_plain_loop_after_a_kill(bus_dir: Path) -> None:
    ran = run("demo", "--dir", bus_dir, "--files", "120", "--json")
    assert ran.exit_code == 0, ran.output
    outcome = json.loads(ran.stdout)
    assert outcome["equal"]
    assert len(outcome["killed"]) == 1
    assert sum(outcome["by_worker"].values()) == 120
    assert answer("topics", "list", "--dir", bus_dir) == []
    assert answer("groups", "list", "--dir", bus_dir) == []


def test_the_demo_has_a_bus_of_its_own_and_removes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    ran = run("demo", "--files", "20", "--no-kill")
    assert ran.exit_code == 0, ran.output
    assert "plain loop" in ran.stdout
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_ends_the_demo_and_leaves_nothing(tmp_path: Path) -> None:
    # A background job of a shell ignores SIGINT, and so would its children.
    script = (
        "import signal, runpy, sys; signal.signal(signal.SIGINT, signal.default_int_handler);"
        " sys.argv[1:] = ['demo']; runpy.run_module('bus', run_name='__main__')"
    )
    command = [sys.executable, "-c", script]
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    with subprocess.Popen(
        command, env=environment, stderr=subprocess.PIPE, start_new_session=True
    ) as process:
        eventually(lambda: list(tmp_path.glob("*/broker.sock")), 30, "the demo's bus runs")
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(30) == 130
        assert process.stderr is not None
        assert b"bus: interrupted" in process.stderr.read()
    assert list(tmp_path.iterdir()) == []


def test_bench_measures_every_figure(bus_dir: Path) -> None:
    figures = answer("bench", "--dir", bus_dir, "--scale", "0.01")
    assert len(figures) == 7
    assert all(figure["value"] > 0 for figure in figures)


def test_totals_that_differ_are_named() -> None:
    assert differences(Counter(NAME=2), Counter(NAME=2)) == []
    (line,) = differences(Counter(NAME=2, OP=1), Counter(NAME=3, OP=1))
    assert "NAME is 3 over the bus and 2" in line


def test_a_file_counts_once_however_often_it_comes() -> None:
    tally = Tally()
    assert tally.add("a", {"NAME": 2})
    assert not tally.add("a", {"NAME": 2})
    assert (tally.totals, tally.repeated) == (Counter(NAME=2), 1)


@pytest.mark.parametrize("source", [b"x = (", b"\xff\xfe", b"'''open", b"  a\n b\n", b"\0"])
def test_a_broken_file_is_counted_the_same_everywhere(source: bytes) -> None:
    counts = count_tokens(source)
    assert counts == count_tokens(source)
    assert counts["BYTES"] == len(source)


def test_tokens_are_counted_by_type() -> None:
    counts = count_tokens(b"x = 1\n")
    assert (counts["NAME"], counts["OP"], counts["NUMBER"]) == (1, 1, 1)


def test_the_corpus_is_the_standard_library_without_what_was_installed_into_it() -> None:
    files = standard_library()
    names = [file.name for file in files]
    assert {"os.py", "json/decoder.py"} <= set(names)
    assert not [name for name in names if "site-packages" in name]
    assert names == sorted(names)
