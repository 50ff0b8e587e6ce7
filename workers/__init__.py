"""workers: handlers in supervised processes, fed from topics of the bus.

The public names are loaded when they are first asked for.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from workers import errors as errors
    from workers.executor import Executor as Executor
    from workers.observer import Observer as Observer
    from workers.supervisor import Supervisor as Supervisor

_WHERE = {
    "Executor": "workers.executor",
    "Observer": "workers.observer",
    "Supervisor": "workers.supervisor",
}

__all__ = ["errors", *_WHERE]


def __getattr__(name: str) -> Any:
    if name == "errors":
        return import_module("workers.errors")
    if name not in _WHERE:
        raise AttributeError(f"module 'workers' has no attribute {name!r}")
    value = getattr(import_module(_WHERE[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
