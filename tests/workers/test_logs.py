"""Logs of handlers say which task they are of."""

import io
import json
import logging
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import workers
from tests.workers.pool_rig import DONE_WITHIN_S, Shop
from tests.workers.test_cli import command, environment
from workers.logs import LOG_FORMAT
from workers.testing import Runner

logger = logging.getLogger("shop")


@pytest.fixture
def stream(request: pytest.FixtureRequest) -> Iterator[io.StringIO]:
    """What a handler of logging with the filter writes."""
    text = io.StringIO()
    handler = logging.StreamHandler(text)
    handler.addFilter(workers.TaskFilter())
    handler.setFormatter(request.param)
    logging.getLogger().addHandler(handler)
    yield text
    logging.getLogger().removeHandler(handler)


def says(record: Any) -> None:
    logger.warning("hello %s", "you", extra={"colour": "red"})
    if workers.current().attempt == 1:
        raise ValueError("no")


@pytest.mark.parametrize("stream", [workers.JsonFormatter()], indirect=True)
def test_json_lines_name_the_task_also_those_about_its_end(stream: io.StringIO) -> None:
    with Runner(says, topic="orders") as runner:
        runner.send(b"1")
        runner.run_until_settled()
    logger.warning("outside")
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    first, failed, second, outside = lines
    assert (first["message"], first["colour"], first["level"]) == ("hello you", "red", "WARNING")
    told = {name: first[name] for name in ("task", "topic", "partition", "offset", "attempt")}
    assert told == {
        "task": "orders:0:0",
        "topic": "orders",
        "partition": 0,
        "offset": 0,
        "attempt": 1,
    }
    assert (failed["task"], failed["attempt"], failed["logger"]) == (
        "orders:0:0",
        1,
        "workers.settlement",
    )
    assert second["attempt"] == 2
    assert "task" not in outside
    assert set(outside) == {"time", "level", "logger", "pid", "message"}


@pytest.mark.parametrize("stream", [workers.JsonFormatter()], indirect=True)
def test_an_exception_and_what_is_no_json_are_text(stream: io.StringIO) -> None:
    try:
        raise ValueError("deep")
    except ValueError:
        logger.exception("sorry", extra={"path": Path("/x")})
    [line] = stream.getvalue().splitlines()
    told = json.loads(line)
    assert told["exception"].endswith("ValueError: deep")
    assert told["path"] == "/x"


@pytest.mark.parametrize("stream", [logging.Formatter(LOG_FORMAT)], indirect=True)
def test_text_lines_name_the_task_once(stream: io.StringIO) -> None:
    with Runner(says, topic="orders") as runner:
        runner.send(b"1")
        runner.run_until_settled()
    logger.warning("outside")
    lines = [line.split(": ", 1)[1] for line in stream.getvalue().splitlines()]
    assert lines[0] == "[orders:0:0 #1] hello you"
    assert lines[1].startswith("orders:0:0, attempt 1: failure: ValueError: no; again in")
    assert lines[3] == "outside"


@pytest.mark.timeout(150)
def test_the_command_line_writes_json(bus_dir: Path, shop: Shop, tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(
        "import logging\n\ndef handle(record):\n    logging.getLogger('shop').info('hello')\n"
    )
    shop.send(1)
    words = command("run", "shop:handle", "-t", "jobs", "-n", "1", "--log-format", "json")
    with subprocess.Popen(
        words, cwd=tmp_path, env=environment(bus_dir), stderr=subprocess.PIPE, text=True
    ) as program:
        try:
            assert program.stderr is not None
            said = (json.loads(line) for line in program.stderr)
            hello = next(told for told in said if told["logger"] == "shop")
            assert (hello["message"], hello["task"]) == ("hello", "jobs:0:0")
        finally:
            program.terminate()
            program.communicate(timeout=DONE_WITHIN_S)
    assert program.returncode == 0
