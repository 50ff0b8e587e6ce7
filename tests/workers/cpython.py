"""CPython's own tests of concurrent.futures, run against workers.Executor.

    python -m tests.workers.cpython [NAME …]

They are taken from the interpreter's own `test` package, or, where that was left out, from Debian's
package of the same version (`tests.tools`). Nothing of them is copied; what is here is the class
that they call, the errors that differ, and those that do not apply, with the reason.
"""

import importlib
import multiprocessing
import os
import subprocess
import sys
import tempfile
import unittest
from collections.abc import Sequence
from multiprocessing.context import BaseContext
from pathlib import Path
from pickle import UnpicklingError
from types import ModuleType
from typing import Any, Final

import workers
from tests.tools import CPYTHON, cpython_tests
from workers.errors import WorkerDied
from workers.task_future import TaskFuture

ROOT: Final = Path(__file__).resolve().parents[2]
#: Where a package has what is one module in Python 3.11.
PARTS: Final = (
    "util",
    "executor",
    "test_process_pool",
    "test_shutdown",
    "test_wait",
    "test_as_completed",
    "test_deadlock",
    "test_init",
    "test_future",
)

#: Tests that are about what only ProcessPoolExecutor has.
INSIDE: Final = "looks into ProcessPoolExecutor: its processes, queues and threads by their names"
BREAKS: Final = "wants the executor to be broken by a dead worker, which this one never is"
NOT_APPLICABLE: Final = {
    "test_processes_terminate": INSIDE,
    "test_del_shutdown": INSIDE,
    "test_shutdown_no_wait": INSIDE,
    "test_context_manager_shutdown": INSIDE,
    "test_saturation": INSIDE,
    "test_idle_process_reuse_one": "starts workers one by one; these are started at once",
    "test_idle_process_reuse_multiple": "starts workers one by one; these are started at once",
    "test_max_tasks_per_child": "wants exactly so many tasks, from one worker at a time",
    "test_max_tasks_per_child_defaults_to_spawn_context": INSIDE,
    "test_max_workers_too_large": "is about Windows",
    "test_killed_child": BREAKS,
    "test_traceback": INSIDE,
    "test_shutdown_deadlock_pickle": "wants a pickling error in the future; submit() raises it",
    "test_cancel": "wants a cancellation to be told by a worker; cancel() tells it itself",
    "test_error_at_task_pickle": "wants a pickling error in the future; submit() raises it",
}
"""Test → why it is not run."""

#: A task whose arguments or result cannot be unpickled has that error, and nothing is broken.
ERRORS: Final[dict[str, type[BaseException]]] = {
    "test_exit_at_task_unpickle": SystemExit,
    "test_error_at_task_unpickle": UnpicklingError,
    "test_error_during_result_unpickle_in_result_handler": UnpicklingError,
    "test_exit_during_result_unpickle_in_result_handler": SystemExit,
}


class WorkersExecutor(workers.Executor):
    """An Executor that is told its start method in the way of ProcessPoolExecutor."""

    def __init__(
        self, max_workers: int | None = None, mp_context: BaseContext | None = None, **options: Any
    ) -> None:
        if mp_context is not None:
            options["start_method"] = mp_context.get_start_method()
        super().__init__(max_workers, **options)


class Adapter:
    """What a class of tests is told of its executor, in the place of one of CPython's mixins."""

    executor_type = WorkersExecutor
    ctx = "forkserver"
    worker_count = 2

    def get_context(self) -> Any:
        """For the locks that some tests pass to their tasks."""
        return multiprocessing.get_context(self.ctx)


class Crashes:
    """Before ExecutorDeadlockTest: another error, where nothing is broken here."""

    def _check_crash(self, error: type[BaseException], *arguments: Any, **options: Any) -> None:
        name: str = self._testMethodName  # type: ignore[attr-defined]
        super()._check_crash(ERRORS.get(name, error), *arguments, **options)  # type: ignore[misc]


class LoneFuture(TaskFuture[Any]):
    """A TaskFuture that is made as a Future is, and is its own canceller."""

    def __init__(self) -> None:
        super().__init__(0, self)  # type: ignore[arg-type]

    def withdraw(self, future: "LoneFuture") -> bool:
        return future.cancel_withdrawn()

    def has_begun(self, task: int) -> bool:
        return self._state == "RUNNING"


LoneFuture.__name__ = "Future"  # some look at it


def modules() -> list[ModuleType]:
    """Those of the tests: one, or in newer versions many."""
    whole = importlib.import_module(CPYTHON)
    if not hasattr(whole, "__path__"):
        return [whole]
    return [importlib.import_module(f"{CPYTHON}.{part}") for part in PARTS]


def one(name: str) -> Any:
    """Something in one of them."""
    return next(getattr(module, name) for module in modules() if hasattr(module, name))


def adapt() -> None:
    """Their errors, their futures, and the programs that they run are ours."""
    from test.support import script_helper

    def assert_python_ok(*words: str, **environment: Any) -> Any:
        theirs = "concurrent.futures import Workers"
        words = tuple(word.replace(theirs, f"{__spec__.name} import Workers") for word in words)
        path = os.environ["PYTHONPATH"]
        return script_helper.assert_python_ok(
            *words, **environment | {"__isolated": False, "PYTHONPATH": path}
        )

    replaced = {
        "BrokenProcessPool": WorkerDied,
        "Future": LoneFuture,
        "assert_python_ok": assert_python_ok,
    }
    for module in modules():
        for name, value in replaced.items():
            if hasattr(module, name):
                setattr(module, name, value)
    remake_constants()


def remake_constants() -> None:
    """PENDING_FUTURE and its like were made before."""
    states = ("PENDING", "RUNNING", "CANCELLED", "CANCELLED_AND_NOTIFIED")
    create = one("create_future")
    made = {f"{state}_FUTURE": create(state=state) for state in states}
    made["EXCEPTION_FUTURE"] = create(state="FINISHED", exception=OSError())
    made["SUCCESSFUL_FUTURE"] = create(state="FINISHED", result=42)
    for module in modules():
        for name, future in made.items():
            if hasattr(module, name):
                setattr(module, name, future)


def suite() -> unittest.TestSuite:
    """All that applies."""
    bases = (Adapter, one("ExecutorMixin"), one("BaseTestCase"))
    found: list[tuple[Any, ...]] = [
        (one(name), *bases)
        for name in ("ProcessPoolExecutorTest", "ProcessPoolShutdownTest", "WaitTests",
                     "AsCompletedTests")
    ]  # fmt: skip
    found.append((Crashes, one("ExecutorDeadlockTest"), *bases))
    found.append((one("InitializerMixin"), Adapter, one("BaseTestCase")))
    found.append((one("FutureTests"),))
    tests = unittest.TestSuite()
    for classes in found:
        name = next(one.__name__ for one in classes if one is not Crashes)
        case = type(f"Workers{name}", classes, {"__module__": __name__})
        for method in unittest.defaultTestLoader.getTestCaseNames(case):
            if method not in NOT_APPLICABLE:
                tests.addTest(case(method))
    return tests


def run(names: Sequence[str] = (), *, keep: bool = True) -> "subprocess.CompletedProcess[str]":
    """All of it, in an interpreter that finds CPython's tests; `keep`: what it says comes back."""
    place = cpython_tests()
    with tempfile.TemporaryDirectory() as scratch:
        if place is not None:
            Path(scratch, "test").symlink_to(place)
        return subprocess.run(
            [sys.executable, "-m", __spec__.name, "here", *names],
            env={**os.environ, "PYTHONPATH": os.pathsep.join((scratch, str(ROOT)))},
            cwd=scratch,
            capture_output=keep,
            text=True,
        )


def here(names: Sequence[str]) -> int:
    """Runs the tests whose ids have one of the names in them, all without any."""
    adapt()
    tests = [test for test in suite() if not names or any(one in test.id() for one in names)]
    result = unittest.TextTestRunner(verbosity=2).run(unittest.TestSuite(tests))
    print(f"{result.testsRun} run, {len(result.skipped)} skipped", flush=True)
    return int(not result.wasSuccessful())


if __name__ == "__main__":
    if sys.argv[1:2] == ["here"]:
        sys.exit(here(sys.argv[2:]))
    sys.exit(run(sys.argv[1:], keep=False).returncode)
