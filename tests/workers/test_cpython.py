"""CPython's own tests of concurrent.futures pass with an Executor."""

import os
import re
from pathlib import Path

from tests.workers import cpython

#: What the tests of every day run; all of them: `tox -e cpython`.
CHOSEN = ("FutureTests", "test_no_timeout", "test_all_completed", "test_free_reference")
ALL = os.environ.get("BUS_CPYTHON_TESTS") == "all"


def test_cpythons_own_tests_of_executors_pass() -> None:
    ended = cpython.run(() if ALL else CHOSEN)
    assert ended.returncode == 0, ended.stderr
    counted = re.search(r"(\d+) run, (\d+) skipped", ended.stdout)
    assert counted is not None
    run, skipped = map(int, counted.groups())
    assert run >= (60 if ALL else 22), ended.stderr
    assert not skipped, ended.stderr


def test_the_page_names_each_test_that_does_not_apply() -> None:
    page = Path(cpython.ROOT, "docs", "workers.md").read_text()
    missing = [name for name in cpython.NOT_APPLICABLE if f"`{name}`" not in page]
    assert not missing
