"""Runs commands in this process, as the console script would."""

import json
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result

from bus.cli.main import main


def run(*arguments: str | Path, stdin: str | bytes | None = None) -> Result:
    """The result of `bus ARGUMENTS…`: .exit_code .stdout .stderr. Tracebacks are failures."""
    result = CliRunner().invoke(main, [str(one) for one in arguments], input=stdin)
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def done(*arguments: str | Path, stdin: str | bytes | None = None) -> Result:
    """The result of a command that must succeed."""
    result = run(*arguments, stdin=stdin)
    assert result.exit_code == 0, result.output
    return result


def answer(*arguments: str | Path) -> Any:
    """What a command prints with --json."""
    return json.loads(done(*arguments, "--json").stdout)


def one_line(result: Result) -> str:
    """The one line of an error message."""
    lines = result.stderr.splitlines()
    assert len(lines) == 1, result.stderr
    return lines[0]
