"""A Runner comes to the same end as a Pool: the same scripts, the same records done and dead."""

import functools
from collections.abc import Callable
from typing import Any

import pytest

import bus
import workers
from tests.workers import scripts
from tests.workers.pool_rig import Shop
from workers import Retry
from workers.handler import is_async
from workers.testing import Runner

SCRIPTS = [
    "ok",
    "fail ok",
    "fail",
    "refuse",
    "memory ok",
    "exit ok",
    "hang ok",
    "crash",
    "fail crash hang ok",
    "stick ok",
]
RETRY = Retry(failure=3, first_delay_s=0.001, longest_delay_s=0.01, give_up_on=(LookupError,))
TOLD = ("reason", "deliveries", "failures", "timeouts", "crashes", "ooms", "exception.type")

#: values that were done; what is told of each that was given up; the attempts at each
Outcome = tuple[list[str], dict[str, list[str]], dict[str, list[tuple[int, str]]]]


def by_runner(handler: Callable[..., Any], script: list[str], timeout_s: float) -> Outcome:
    """What becomes of a script in a Runner."""
    called = functools.partial(handler, crash=scripts.crash_in_test)
    with Runner(called, retry=RETRY, timeout_s=timeout_s) as runner:
        for text in script:
            runner.send(text.encode())
        runner.run_until_settled()
        done = sorted((record.value or b"").decode() for record in runner.done)
        dead = {one.record.value.decode(): _told(one.told) for one in runner.dead_letters}
        attempts: dict[str, list[tuple[int, str]]] = {text: [] for text in script}
        for one in runner.attempts:
            tried = attempts[(one.record.value or b"").decode()]
            tried.append((one.number, one.outcome.name))
    return done, dead, attempts


def by_pool(
    shop: Shop, handler: Callable[..., Any], script: list[str], timeout_s: float
) -> Outcome:
    """The same by processes."""
    with bus.Producer(shop.directory) as producer:
        producer.send_many(shop.topic, [text.encode() for text in script]).get(20.0)
    options = {
        "retry": RETRY,
        "timeout_s": timeout_s,
        "dead_letter": True,
        "init": _nothing,
        "flight_record": True,
    }
    called: Callable[..., Any] = without_state_async if is_async(handler) else without_state
    called = functools.partial(called, handler)
    with shop.at_work(called, **options) as bench:
        bench.settled(len(script))
    shop.until_all_done()
    dead = {
        one.value.decode(): _told({name[len("dlq.") :]: text for name, text in one.headers.items()})
        for one in shop.dead_letters()
    }
    attempts = {text: _attempts(shop, offset) for offset, text in enumerate(script)}
    return sorted(set(script) - dead.keys()), dead, attempts


def _attempts(shop: Shop, offset: int) -> list[tuple[int, str]]:
    """Those at a record of a pool, as its flight record tells."""
    found = workers.flight(
        shop.topic, 0, offset, group=shop.topic, bootstrap_servers=str(shop.directory)
    )
    return [(number, note.outcome.name) for number, note in found.numbered()]


def without_state(handler: Callable[..., Any], record: Any, state: None) -> Any:
    """The rig passes a file to handlers that have no state."""
    return handler(record, crash=scripts.kill_self)


async def without_state_async(handler: Callable[..., Any], record: Any, state: None) -> None:
    """The same of an async def."""
    await handler(record, crash=scripts.kill_self)


def _nothing() -> None:
    """No state."""


def _told(told: dict[str, str]) -> list[str]:
    return [told.get(name, "") for name in TOLD]


@pytest.mark.timeout(150)
@pytest.mark.parametrize("handler", [scripts.scripted, scripts.scripted_async])
def test_a_runner_and_a_pool_end_alike(shop: Shop, handler: Callable[..., Any]) -> None:
    expected = by_pool(shop, handler, SCRIPTS, timeout_s=0.3)
    assert by_runner(handler, SCRIPTS, timeout_s=0.3) == expected
