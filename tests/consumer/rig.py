"""Readers of topic "t", from its beginning."""

from pathlib import Path
from typing import Any

import bus
from bus.structs import TopicPartition

T0, T1, T2 = (TopicPartition("t", number) for number in range(3))


def reader(path: Path, *topics: str, **options: Any) -> bus.Consumer:
    options = {"auto_offset_reset": "earliest", "consumer_timeout_ms": 5000} | options
    return bus.Consumer(*topics, bootstrap_servers=path, **options)


def values(found: Any) -> list[bytes]:
    return [record.value for records in found.values() for record in records]
