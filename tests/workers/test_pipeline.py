"""Pipelines: what goes in comes out, once, in any shape and, if asked for, in order."""

import functools
from collections import Counter
from pathlib import Path
from typing import Any

import numpy
import pytest

import bus
from tests.workers import stages
from tests.workers.executors import assert_gone
from workers import Pipeline, Retry
from workers.errors import PipelineError, PipelineStalledError, StageFailedError

#: A busy machine takes its time to start so many processes.
pytestmark = pytest.mark.timeout(150)

QUICK = Retry(failure=2, crash=255, first_delay_s=0.001)


def finished(pipeline: Pipeline) -> list[Any]:
    """All results of a private pipeline, of which nothing is left then."""
    with pipeline:
        found = list(pipeline.results())
        pids = pipeline.pids()
    assert_gone(pids)
    return found


def test_stages_may_give_nothing_one_or_many_for_one() -> None:
    pipeline = Pipeline().source(range(300)).stage(stages.double, processes=2)
    found = finished(pipeline.stage(stages.up_to_two, processes=2).stage(stages.negate))
    expected = [-out for n in range(300) for out in stages.outputs_of_up_to_two(2 * n)]
    assert sorted(found) == sorted(expected)


def test_a_stage_feeds_several_and_takes_from_several() -> None:
    pipeline = Pipeline(ordered=True).source(range(100)).stage(stages.double)
    pipeline.stage(stages.negate, after="double")
    pipeline.stage(stages.up_to_two, after="double", processes=2)
    found = finished(pipeline.stage(stages.slowly, after=["negate", "up_to_two"], concurrency=8))
    expected = [[-2 * n, *stages.outputs_of_up_to_two(2 * n)] for n in range(100)]
    assert Counter(found) == Counter(out for group in expected for out in group)
    at = 0
    for group in expected:  # in order of the items; between branches there is none
        assert sorted(found[at : at + len(group)]) == sorted(group)
        at += len(group)


def test_results_come_in_order_if_asked_for_although_the_first_takes_longest() -> None:
    pipeline = Pipeline(ordered=True, buffer=50).source(range(400))
    pipeline.stage(stages.first_is_slow, processes=3).stage(stages.both_signs)
    with pipeline:
        results = pipeline.results()
        found = []
        waiting = 0
        for one in results:
            found.append(one)
            waiting = max(waiting, results.waiting)
    assert found == [out for n in range(400) for out in (n, -n)]
    # Of two results each: 50 others behind the first one, and as many again while it is on its way
    # through the second topic.
    assert 0 < waiting <= 2 * (50 + 50)


def test_arrays_are_read_where_they_lie_and_travel_with_what_belongs_to_them() -> None:
    arrays = [numpy.full((100, 200), n, dtype=numpy.float32) for n in range(20)]
    items = [{"array": array, "number": n} for n, array in enumerate(arrays)]
    found = finished(Pipeline(ordered=True).source(items).stage(stages.mean_in_place))
    assert [(one["number"], one["mean"]) for one in found] == [(n, float(n)) for n in range(20)]
    assert all(one["half"].shape == (50, 200) for one in found)


def test_a_stage_may_have_a_state() -> None:
    pipeline = Pipeline().source([1, 2]).stage(stages.plus_state, init=stages.thousand)
    assert sorted(finished(pipeline)) == [1001, 1002]


def test_a_record_that_is_given_up_ends_a_private_pipeline_with_its_error() -> None:
    pipeline = Pipeline().source(range(10)).stage(stages.fails_on_5, retry=QUICK)
    with pytest.raises(StageFailedError, match="LookupError: 5 is not there") as raised:
        finished(pipeline)
    assert raised.value.stage == "fails_on_5"
    assert raised.value.source == "pipeline.source:0:5"
    assert raised.value.reason == "failure 2 of 2"
    assert "in fails_on_5" in raised.value.traceback


def test_an_error_of_the_iterable_is_raised_where_the_results_are_taken() -> None:
    def items() -> Any:
        yield 1
        raise KeyError("no more")

    with pytest.raises(KeyError, match="no more"):
        finished(Pipeline().source(items()).stage(stages.double))


def test_a_stage_that_is_stuck_is_named_with_its_worker_when_nothing_moves() -> None:
    pipeline = Pipeline(buffer=5, stall_timeout_s=1.5).source(range(1000))
    pipeline.stage(stages.double).stage(stages.never)
    with pytest.raises(PipelineStalledError) as raised, pipeline:
        list(pipeline.results())
    text = str(raised.value)
    assert raised.value.stage == "double"
    assert "pipeline.double-0 is held back by its consumers: group 'pipeline.never' lags" in text
    assert "worker-" in text


def test_a_pipeline_on_a_bus_goes_on_where_it_was(bus_dir: Path, broker: object) -> None:
    def run(items: range) -> list[Any]:
        pipeline = Pipeline(bus_dir, name="p").source(items)
        return list(pipeline.stage(stages.double).stage(stages.negate))

    assert sorted(run(range(50))) == sorted(-2 * n for n in range(50))
    # the same items and more: those that are done are neither worked on nor given again
    assert sorted(run(range(70))) == sorted(-2 * n for n in range(50, 70))


def test_results_may_go_to_a_topic_and_items_come_from_one(bus_dir: Path, broker: object) -> None:
    with bus.Producer(bus_dir, value_serializer="json") as producer:
        for n in range(100):
            producer.send("numbers", n)
    pipeline = Pipeline(bus_dir, name="p").source(topic="numbers", values="json", follow=False)
    pipeline.stage(stages.with_key).sink("keyed", values="json")
    assert pipeline.run() == 0
    with bus.Consumer(
        "keyed",
        bootstrap_servers=bus_dir,
        value_deserializer="json",
        auto_offset_reset="earliest",
        group_id="g",
        consumer_timeout_ms=300,
    ) as consumer:
        records = list(consumer)
    assert sorted(record.value for record in records) == list(range(100))
    assert all(record.key == b"k%d" % record.value for record in records)
    assert all(("by", b"with_key") in record.headers for record in records)


def test_a_worker_that_dies_between_outputs_and_ack_leaves_each_output_once(tmp_path: Path) -> None:
    call = functools.partial(stages.kills_itself_once, place=tmp_path)
    pipeline = Pipeline().source(range(4)).stage(call, name="dies", retry=QUICK)
    found = finished(pipeline.stage(stages.negate))
    assert sorted(found, reverse=True) == [-n for n in range(12)]
    assert {path.name for path in tmp_path.glob("died-*")} == {f"died-{n}" for n in range(4)}


@pytest.mark.parametrize(
    ("build", "text"),
    [
        (lambda: Pipeline().stage(stages.double), "begins with source"),
        (lambda: Pipeline().source("text"), "iterable of items"),
        (lambda: Pipeline().source(topic="t"), "on no bus"),
        (lambda: Pipeline("./data"), "needs name="),
        (lambda: Pipeline().source([1]).start(), "has no stage"),
        (lambda: Pipeline().source([1]).stage(stages.double, after="x"), "there is only 'source'"),
        (lambda: Pipeline().source([1]).stage(stages.double).stage(stages.double), "two parts"),
        (lambda: Pipeline().source([1]).stage(stages.double, name="results"), "'results'"),
        (lambda: Pipeline().source([1]).stage(stages.double).sink("t"), "on no bus"),
        (lambda: Pipeline("./data", name="p").source([1]).sink("t"), "is a source"),
        (lambda: Pipeline().source([1]).stage(stages.double, values="pickle"), "no format"),
        (lambda: Pipeline().results(), "does not run"),
    ],
)
def test_what_does_not_fit_together_is_said_when_it_is_built(build: Any, text: str) -> None:
    with pytest.raises((PipelineError, ValueError), match=text):
        build()
