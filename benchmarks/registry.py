"""All scenarios, in the order in which they run and are reported."""

from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.scenarios import (
    arrays,
    batches,
    durable,
    failover,
    idle,
    memory,
    pipelines,
    producers,
    recovery,
    roundtrip,
    start,
    tasks,
    throughput,
)
from benchmarks.stage import Stage
from benchmarks.targets import Target


@dataclass(frozen=True)
class Scenario:
    """A name for the command line, a title for people, what runs, and what it must reach."""

    name: str
    title: str
    run: Callable[[Stage], None]
    targets: tuple[Target, ...]


SCENARIOS: tuple[Scenario, ...] = tuple(
    Scenario(module.NAME, module.TITLE, module.run, module.TARGETS)
    for module in (
        throughput,
        batches,
        arrays,
        producers,
        roundtrip,
        durable,
        idle,
        memory,
        recovery,
        failover,
        start,
        tasks,
        pipelines,
    )
)


def chosen(names: tuple[str, ...]) -> list[Scenario]:
    """The scenarios of those names, all if there are none. Raises KeyError for an unknown one."""
    by_name = {scenario.name: scenario for scenario in SCENARIOS}
    for name in names:
        if name not in by_name:
            raise KeyError(f"no scenario {name!r}; there are: {', '.join(by_name)}")
    return [scenario for scenario in SCENARIOS if not names or scenario.name in names]
