"""A pool under trouble: workers that crash, orders that cannot be done, and dead letters.

    python examples/worker_pool.py [DIR] [--orders N]

N orders (100) are handled by two worker processes. Some orders fail once, some always, one kills
its worker each time, and meanwhile a worker is killed from outside every now and then. In the end
every order is either done or a dead letter that says why. The letters are sent again after the
repair, and are done then.

With more orders it runs as long as one likes: watch it with `python -m workers status`. DIR is a
directory for the bus in which no broker runs; without it, a temporary one is used.
"""

import argparse
import collections
import contextlib
import os
import random
import signal
import tempfile
import time
from typing import Any

import bus
import workers

TOPIC = "orders"
GROUP = "shop"
#: an order that kills whoever works on it, and what part of the others fails
DEADLY = 13
FAILS_ONCE, FAILS_ALWAYS = 10, 50
KILLS, KILL_EVERY_S = 2, 0.15
#: it gives up instead of hanging
PATIENCE_S = 40.0


def handle(record: Any) -> None:
    """Pack an order."""
    order = int(record.value)
    time.sleep(0.001)
    if order == DEADLY:
        os.kill(os.getpid(), signal.SIGKILL)
    if order % FAILS_ALWAYS == 1:
        raise LookupError(f"order {order}: no such article")
    if order % FAILS_ONCE == 2 and workers.current().attempt == 1:
        raise ConnectionError(f"order {order}: the printer did not answer")


def pack(record: Any) -> None:
    """The repaired one."""


def is_settled(directory: str) -> bool:
    """True if each order is done or given up: the group has nothing left before the log's end."""
    with bus.Admin(directory) as admin:
        if GROUP not in {group["group_id"] for group in admin.list_groups()}:
            return False  # no worker has joined yet
        committed = admin.list_group_offsets(GROUP)[GROUP].values()
        [topic] = admin.describe_topics([TOPIC])
    ends = [one["log_end_offset"] for one in topic["partitions"]]
    return bool(sum(one.offset for one in committed) == sum(ends))


def work_off(directory: str, pool: workers.Pool, orders: int, *, kills: int) -> None:
    """Waits until all is settled, and kills so many workers meanwhile."""
    draw, began_s = random.Random(), time.monotonic()
    next_kill_s = began_s + KILL_EVERY_S
    while not is_settled(directory):
        now_s = time.monotonic()
        if now_s > began_s + PATIENCE_S + orders / 100:
            raise TimeoutError(f"not done: {pool.statistics()}")
        if pool.failure is not None:
            raise pool.failure
        pids = [worker.pid for worker in pool.statistics().workers if worker.tasks]
        if kills and pids and now_s > next_kill_s:
            kills -= 1
            next_kill_s = now_s + KILL_EVERY_S
            with contextlib.suppress(ProcessLookupError):
                os.kill(draw.choice(pids), signal.SIGKILL)
        time.sleep(0.05)


def main(directory: str, orders: int) -> None:
    """Run the shop, look at what it could not do, and do that after the repair."""
    kinds: collections.Counter[str] = collections.Counter()

    def note(letter: workers.DeadLetter) -> bool:
        kinds[letter.told["exception.type"]] += 1
        return True

    options: dict[str, Any] = {"group_id": GROUP, "bootstrap_servers": directory}
    retry = workers.Retry(failure=3, crash=3, first_delay_s=0.01)
    with bus.Broker(directory):
        with bus.Producer(directory) as producer:
            producer.send_many(TOPIC, [b"%d" % order for order in range(orders)]).get()
        with workers.Pool(TOPIC, handle, processes=2, retry=retry, **options) as pool:
            work_off(directory, pool, orders, kills=max(KILLS, orders // 100))
        crashes = pool.statistics().crashes
        print(f"workers crashed and were replaced: {'yes' if crashes else 'no'}")
        dead = workers.redrive(f"dlq.{TOPIC}.{GROUP}", bootstrap_servers=directory, only=note)
        print(f"{orders - dead.sent} orders done, {dead.sent} dead letters")
        for kind, count in sorted(kinds.items()):
            print(f"  {kind}: {count}")
        with workers.Pool(TOPIC, pack, processes=1, **options) as pool:
            work_off(directory, pool, orders, kills=0)
        print(f"{dead.sent} sent again after the repair, and done")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("directory", nargs="?")
    parser.add_argument("--orders", type=int, default=100)
    given = parser.parse_args()
    if given.directory:
        main(given.directory, given.orders)
    else:
        with tempfile.TemporaryDirectory() as temporary:
            main(temporary, given.orders)
