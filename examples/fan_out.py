"""Fan-out: two groups read the same topic; one of them shares the work between two members.

    python examples/fan_out.py [DIR]

    orders (4 partitions) ──► group "audit":   one member, reads every order
                          └─► group "billing": two members, each order goes to one of them

DIR is a directory for the bus in which no broker runs; without it, a temporary one is used.
"""

import sys
import tempfile
import time

import bus

ORDERS = 1000
#: everything should be read long before, in seconds
DEADLINE_S = 20.0


def reader(directory: str, group: str) -> bus.Consumer:
    """A member of a group that reads the orders from the beginning on."""
    return bus.Consumer(
        "orders", bootstrap_servers=directory, group_id=group, auto_offset_reset="earliest"
    )


def read(members: list[bus.Consumer]) -> list[int]:
    """Poll the members in turn until they have read all orders together; how many each one got."""
    counts = [0] * len(members)
    deadline = time.monotonic() + DEADLINE_S
    while sum(counts) < ORDERS and time.monotonic() < deadline:
        for index, member in enumerate(members):
            batches = member.poll(timeout_ms=10, max_records=100)
            counts[index] += sum(len(batch) for batch in batches.values())
    return counts


def main(directory: str) -> None:
    """Run a broker, send the orders, let both groups read them."""
    with bus.Broker(directory):
        with bus.Admin(directory) as admin:
            if "orders" not in admin.list_topics():
                admin.create_topics([bus.NewTopic("orders", num_partitions=4)])
        with bus.Producer(directory) as producer:
            for number in range(ORDERS):
                producer.send("orders", f"order {number}".encode(), key=f"{number}".encode())
        with reader(directory, "audit") as audit:
            audited = read([audit])
        with reader(directory, "billing") as first, reader(directory, "billing") as second:
            billed = read([first, second])
    print(f"audit: {audited[0]} orders by one member")
    print(f"billing: {sum(billed)} orders, {billed[0]} by one member and {billed[1]} by the other")
    if sum(audited) != ORDERS or sum(billed) != ORDERS:
        sys.exit(f"each group should have read {ORDERS} orders")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        main(sys.argv[1] if len(sys.argv) > 1 else temporary)
