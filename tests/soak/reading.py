"""How whoever reads writes down what it was given."""

from collections.abc import Iterable
from typing import Any

from bus.native.core import ConsumerRecord
from tests.soak.payload import name_of

#: [topic, partition, first offset, [[producer, sequence] or null, …]]
Run = list[Any]


def runs_of(records: Iterable[ConsumerRecord]) -> list[Run]:
    """Records as runs of offsets that follow each other; null for bytes that nobody sent."""
    runs: list[Run] = []
    for record in records:
        name = name_of(record.key, record.value)
        last = runs[-1] if runs else None
        where = [record.topic, record.partition]
        if last is None or last[:2] != where or last[2] + len(last[3]) != record.offset:
            last = [*where, record.offset, []]
            runs.append(last)
        last[3].append(name)
    return runs
