"""bus: topics, partitions and an append-only log between the processes of one Linux host.

The public names are loaded when they are first asked for: a program that only sends does not pay
for the parts that it never uses, and neither does a replica process.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from bus import errors as errors
    from bus import serializers as serializers
    from bus.admin import Admin as Admin
    from bus.broker import Broker as Broker
    from bus.config import BrokerConfig as BrokerConfig
    from bus.config import TopicConfig as TopicConfig
    from bus.consumer import Consumer as Consumer
    from bus.listener import ConsumerRebalanceListener as ConsumerRebalanceListener
    from bus.native.core import ConsumerRecord as ConsumerRecord
    from bus.native.core import Parts as Parts
    from bus.native.core import RecordFuture as RecordFuture
    from bus.producer import Producer as Producer
    from bus.share_consumer import Attempts as Attempts
    from bus.share_consumer import ShareConsumer as ShareConsumer
    from bus.structs import ConsumerGroupMetadata as ConsumerGroupMetadata
    from bus.structs import NewTopic as NewTopic
    from bus.structs import OffsetAndMetadata as OffsetAndMetadata
    from bus.structs import OffsetAndTimestamp as OffsetAndTimestamp
    from bus.structs import RecordMetadata as RecordMetadata
    from bus.structs import TopicPartition as TopicPartition

_WHERE = {
    "Admin": "bus.admin",
    "Attempts": "bus.share_consumer",
    "Broker": "bus.broker",
    "BrokerConfig": "bus.config",
    "Consumer": "bus.consumer",
    "ConsumerGroupMetadata": "bus.structs",
    "ConsumerRebalanceListener": "bus.listener",
    "ConsumerRecord": "bus.native.core",
    "NewTopic": "bus.structs",
    "OffsetAndMetadata": "bus.structs",
    "OffsetAndTimestamp": "bus.structs",
    "Parts": "bus.native.core",
    "Producer": "bus.producer",
    "RecordFuture": "bus.native.core",
    "RecordMetadata": "bus.structs",
    "ShareConsumer": "bus.share_consumer",
    "TopicConfig": "bus.config",
    "TopicPartition": "bus.structs",
}

_MODULES = ("errors", "serializers")

__all__ = ["__version__", *_MODULES, *_WHERE]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return import_module(f"bus.{name}")
    if name not in _WHERE:
        raise AttributeError(f"module 'bus' has no attribute {name!r}")
    value = getattr(import_module(_WHERE[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
