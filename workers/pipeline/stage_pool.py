"""The pool of a stage: the workers, what they tell, and what they have given up."""

import time
from collections.abc import Mapping
from typing import Any, Final

import bus
from workers.errors import CrashLoopError, PoolOptionError, StageFailedError
from workers.handler import Handler, name_of
from workers.letters import told_of
from workers.observer import Observer
from workers.pipeline.batch_work import BatchStageWork
from workers.pipeline.edges import Edges
from workers.pipeline.graph import Stage
from workers.pipeline.outlet import Drain
from workers.pipeline.patience import HELD_UP
from workers.pipeline.stage_work import AsyncStageWork, Plan, StageWork, is_asynchronous
from workers.pool import Pool

#: A worker that waits for room says so every second.
FRESH_S: Final = 3.0


class StageObserver(Observer):
    """Hears of one stage's workers."""

    def __init__(self) -> None:
        self._held_up = ("", 0.0)
        self.gave_up: CrashLoopError | None = None
        self.has_begun = False

    def on_ready(self, number: int, pid: int) -> None:
        """See Observer."""
        self.has_begun = True

    def on_message(self, number: int, pid: int, data: bytes) -> None:
        """See Observer."""
        if data.startswith(HELD_UP):
            self._held_up = (data[len(HELD_UP) :].decode(errors="replace"), time.monotonic())

    def on_give_up(self, error: CrashLoopError) -> None:
        """See Observer."""
        self.gave_up = error

    @property
    def held_up(self) -> str:
        """Why a worker waits for room behind it; "" if none does."""
        reason, since_s = self._held_up
        return reason if time.monotonic() - since_s < FRESH_S else ""


class StagePool(Pool):
    """A pool whose handler is a stage of a pipeline."""

    def __init__(
        self,
        edges: Edges,
        stage: Stage,
        *,
        roots: frozenset[str] | None,
        durable: bool,
        defaults: Mapping[str, Any],
    ) -> None:
        options = {**defaults, **stage.options}
        Handler(stage.function, options.get("init"), options.get("exit"))  # says what is wrong
        plan = Plan(
            function=stage.function,
            init=options.pop("init", None),
            exit=options.pop("exit", None),
            inputs=edges.formats_before(stage.after),
            drain=Drain(
                address=edges.address,
                stage=stage.name,
                group=edges.group_of(stage.name),
                topic=edges.topic_of(stage),
                values=stage.values,
                durable=durable,
                autostart=not edges.is_private,
            ),
            roots=roots,
        )
        work = _work_of(plan, batched=options.get("batch") is not None)
        self._told = {
            "kind": "stage",
            "pipeline": edges.name,
            "stage": stage.name,
            "handler": name_of(stage.function),
        }
        self.stage = stage.name
        self.observer = StageObserver()
        super().__init__(
            list(plan.inputs),
            work,
            init=work.open,
            exit=work.close,
            group_id=edges.group_of(stage.name),
            bootstrap_servers=edges.address,
            observer=self.observer,
            **options,
        )

    def _description(self) -> dict[str, Any]:
        return {**super()._description(), **self._told}

    def interrupt(self) -> None:
        """Interrupts the handlers and ends the workers; does not wait."""
        self._supervisor.stop()

    def trouble(self) -> StageFailedError | None:
        """Why no worker lives; None if all is well."""
        gave_up = self.observer.gave_up
        if gave_up is not None:
            return StageFailedError(f"stage {self.stage!r}: {gave_up}", stage=self.stage)
        return None

    def first_letter(self) -> StageFailedError:
        """What the dead letters of the stage tell, as an error."""
        told = _first_told(self._order.address, self.dead_letter_topics)
        source = ":".join(told.get(name, "?") for name in ("topic", "partition", "offset"))
        kind, text = told.get("exception.type", ""), told.get("exception.text", "")
        reason = told.get("reason", "see the log of its workers")
        return StageFailedError(
            f"stage {self.stage!r} gave up {source}: {reason}"
            + (f"; {kind}: {text}" if kind else ""),
            stage=self.stage,
            source=source,
            reason=reason,
            type_name=kind,
            traceback=told.get("exception.traceback", ""),
        )


def _work_of(plan: Plan, *, batched: bool) -> StageWork:
    if not is_asynchronous(plan.function):
        return BatchStageWork(plan) if batched else StageWork(plan)
    if batched:
        raise PoolOptionError("batch needs a function, not an async def")
    return AsyncStageWork(plan)


def _first_told(address: str | None, topics: tuple[str, ...]) -> dict[str, str]:
    places = [bus.TopicPartition(topic, 0) for topic in topics]
    with bus.Consumer(bootstrap_servers=address) as consumer:
        consumer.assign(places)
        ends = consumer.end_offsets(places)
        for place in places:
            if ends[place] > consumer.beginning_offsets([place])[place]:
                consumer.pause(*(one for one in places if one != place))
                consumer.seek_to_beginning(place)
                for record in consumer.poll(1000, max_records=1).get(place, []):
                    return told_of(record.headers)
                consumer.resume(*places)
    return {}
