"""How worker processes come into being, and what is refused.

forkserver  the default: a process without threads forks them, with modules imported beforehand
spawn       a new interpreter for each: slow, but nothing at all is shared
fork        a copy of this process: only while it has one thread. Locks of other threads would
            stay locked in the copy for ever, and not only Python's: those of malloc, of BLAS.
"""

import multiprocessing
import os
import pickle
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from multiprocessing import forkserver
from multiprocessing.context import BaseContext
from pathlib import Path
from typing import Any, Final

from workers.errors import NotPicklableError, StartMethodError

FORKSERVER: Final = "forkserver"
SPAWN: Final = "spawn"
FORK: Final = "fork"
START_METHODS: Final = (FORKSERVER, SPAWN, FORK)
#: Imported by the fork server before it forks: what every worker needs.
PRELOADED: Final = ("workers.post", "workers.board", "bus.producer")
_VARIABLES: Final = ("PYTHONPATH", "PYTHONSAFEPATH")


def context_for(start_method: str, preload: Sequence[str] = ()) -> BaseContext:
    """The multiprocessing context. Raises StartMethodError for an unknown name.

    `preload` names modules for the fork server to import; it starts with the first worker of the
    program that needs it, and what is named later is imported by each worker.
    """
    if start_method not in START_METHODS:
        names = ", ".join(map(repr, START_METHODS))
        raise StartMethodError(f"start_method {start_method!r} is not one of {names}")
    context = multiprocessing.get_context(start_method)
    if start_method == FORKSERVER:
        # with the main module, which multiprocessing itself would preload
        context.set_forkserver_preload(["__main__", *PRELOADED, *preload])
    return context


def ensure_forkserver() -> None:
    """Starts the fork server, unless it runs, so that it finds modules where this process does.

    Left to itself it looks into the current directory first, whatever this process does, and may
    import something else under the same name. Raises OSError.
    """
    with _set_environment(PYTHONPATH=os.pathsep.join(_search_path()), PYTHONSAFEPATH="1"):
        forkserver.ensure_running()


@contextmanager
def _set_environment(**values: str) -> Iterator[None]:
    before = environment()
    os.environ.update(values)
    try:
        yield
    finally:
        restore_environment(before)


def environment() -> dict[str, str | None]:
    """The variables that the fork server was started with other values of; for its children."""
    return {name: os.environ.get(name) for name in _VARIABLES}


def restore_environment(before: Mapping[str, str | None]) -> None:
    """Sets variables to what `environment()` has said."""
    for name, value in before.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


def _search_path() -> list[str]:
    return [entry or os.getcwd() for entry in sys.path]


def refuse_fork(start_method: str) -> None:
    """Raises StartMethodError for "fork": whoever asks has threads of its own."""
    if start_method == FORK:
        raise StartMethodError(
            "start_method='fork' would copy a process with threads, and the locks that they hold;"
            " use 'forkserver' or 'spawn'"
        )


def refuse_threads() -> None:
    """Raises StartMethodError if this process may not fork: it has other threads, of any kind."""
    threads = len(list(Path("/proc/self/task").iterdir()))
    if threads > 1:
        raise StartMethodError(
            f"start_method='fork' in a process with {threads} threads (pid {os.getpid()}): the"
            " workers could inherit a lock that nobody will ever release; use 'forkserver'"
        )


def check_picklable(what: str, value: Any) -> None:
    """Raises NotPicklableError, with a way out, if a value cannot be sent to a worker."""
    try:
        pickle.dumps(value)
    except Exception as error:
        raise NotPicklableError(
            f"{what} {value!r} cannot be sent to a worker process ({error}); use a function or"
            " class at the top level of a module, or functools.partial of one"
        ) from error
