"""workers: handlers in supervised processes, fed from topics of the bus.

The public names are loaded when they are first asked for.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from workers import errors as errors
    from workers.current_task import CurrentTask as CurrentTask
    from workers.current_task import current as current
    from workers.executor import Executor as Executor
    from workers.figures import Statistics as Statistics
    from workers.figures import statistics as statistics
    from workers.limits import Concurrency as Concurrency
    from workers.limits import Rate as Rate
    from workers.logs import JsonFormatter as JsonFormatter
    from workers.logs import TaskFilter as TaskFilter
    from workers.observer import Observer as Observer
    from workers.pipeline import Output as Output
    from workers.pipeline import Pipeline as Pipeline
    from workers.pool import Pool as Pool
    from workers.redriving import DeadLetter as DeadLetter
    from workers.redriving import Redriven as Redriven
    from workers.redriving import redrive as redrive
    from workers.replaying import Replayed as Replayed
    from workers.replaying import replay as replay
    from workers.replaying_here import replay_here as replay_here
    from workers.retry import Retry as Retry
    from workers.scheduler import Scheduler as Scheduler
    from workers.scheduling import Schedule as Schedule
    from workers.scheduling import schedule as schedule
    from workers.story import Flight as Flight
    from workers.story import flight as flight
    from workers.supervisor import Supervisor as Supervisor

_WHERE = {
    "Executor": "workers.executor",
    "DeadLetter": "workers.redriving",
    "Redriven": "workers.redriving",
    "redrive": "workers.redriving",
    "replay": "workers.replaying",
    "replay_here": "workers.replaying_here",
    "Concurrency": "workers.limits",
    "Rate": "workers.limits",
    "CurrentTask": "workers.current_task",
    "Flight": "workers.story",
    "flight": "workers.story",
    "JsonFormatter": "workers.logs",
    "Observer": "workers.observer",
    "TaskFilter": "workers.logs",
    "Output": "workers.pipeline",
    "Pipeline": "workers.pipeline",
    "Pool": "workers.pool",
    "Replayed": "workers.replaying",
    "Retry": "workers.retry",
    "Schedule": "workers.scheduling",
    "Scheduler": "workers.scheduler",
    "schedule": "workers.scheduling",
    "Statistics": "workers.figures",
    "Supervisor": "workers.supervisor",
    "statistics": "workers.figures",
    "current": "workers.current_task",
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
