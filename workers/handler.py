"""What a pool calls for each record, and around it: handler, init and exit.

handler(record)            a function, or an async def
handler(record, state)     with `init`: what init() returned in this worker process
exit(state)                at the end of a worker, after its last task; exit() without init
"""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from types import FunctionType
from typing import Any

from workers.errors import HandlerError


@dataclass(frozen=True, slots=True)
class Handler:
    """The three functions, as they travel to the workers."""

    function: Callable[..., Any]
    init: Callable[[], Any] | None = None
    exit: Callable[..., Any] | None = None

    def __post_init__(self) -> None:
        for name in ("function", "init", "exit"):
            value = getattr(self, name)
            if value is not None and not callable(value):
                raise HandlerError(f"{name} must be callable, not {value!r}")
        _check_signature(self.function, 1 if self.init is None else 2)

    @property
    def is_async(self) -> bool:
        """True if calling it gives a coroutine."""
        return is_async(self.function)

    @property
    def name(self) -> str:
        """MODULE:NAME of the function, for people and as the name of its group."""
        return name_of(self.function)

    def bound(self, state: Any) -> Callable[[Any], Any]:
        """The handler as a function of the record alone."""
        if self.init is None:
            return self.function
        function = self.function
        return lambda record: function(record, state)

    def leave(self, state: Any) -> Any:
        """Calls `exit`, if there is one."""
        if self.exit is None:
            return None
        return self.exit() if self.init is None else self.exit(state)


def is_async(function: Callable[..., Any]) -> bool:
    """True for an async def, a partial of one, and an object whose __call__ is one."""
    while isinstance(function, partial):
        function = function.func
    called = getattr(type(function), "__call__", None)  # noqa: B004 - its kind is asked for
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(called)


def name_of(function: Callable[..., Any]) -> str:
    """MODULE:NAME; a script that is run by itself is called after its file."""
    while isinstance(function, partial):
        function = function.func
    named = function if isinstance(function, FunctionType | type) else type(function)
    module = named.__module__
    if module == "__main__":
        file = getattr(import_module("__main__"), "__file__", None)
        module = Path(file).stem if file else module
    return f"{module}:{named.__qualname__}"


def find(text: str) -> Callable[..., Any]:
    """The function that MODULE:NAME names. Raises HandlerError with what is wrong."""
    found = find_any(text)
    if not callable(found):
        module_name, _, name = text.partition(":")
        raise HandlerError(f"module {module_name!r} has no function {name!r}")
    return found  # type: ignore[no-any-return]


def find_any(text: str) -> Any:
    """What MODULE:NAME names, None if there is none. Raises HandlerError for the module."""
    module_name, _, name = text.partition(":")
    if not module_name or not name:
        raise HandlerError(f"{text!r} is not MODULE:HANDLER, as in shop.orders:handle")
    try:
        found: Any = import_module(module_name)
    except ModuleNotFoundError as error:
        raise HandlerError(f"there is no module {error.name!r} (sys.path was searched)") from error
    for part in name.split("."):
        found = getattr(found, part, None)
    return found


def _check_signature(function: Callable[..., Any], arguments: int) -> None:
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return  # some builtins have none; the first record tells
    try:
        signature.bind(*range(arguments))
    except TypeError as error:
        what = "handler(record)" if arguments == 1 else "handler(record, state), for there is init"
        raise HandlerError(f"{name_of(function)} cannot be called as {what}: {error}") from error
