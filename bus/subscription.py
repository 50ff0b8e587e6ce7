"""What a consumer wants to read: topics, a pattern, or partitions named one by one. No I/O."""

import re
from collections.abc import Collection, Iterable

from bus.config import check_topic_name
from bus.errors import IllegalStateError
from bus.listener import ConsumerRebalanceListener
from bus.structs import TopicPartition

#: names that start with it are the bus's own; a pattern does not match them
INTERNAL_PREFIX = "__"


class Subscription:
    """The wish of one consumer. It is one of: nothing, topics, a pattern, partitions."""

    def __init__(self) -> None:
        self.topics: frozenset[str] = frozenset()
        self.pattern: re.Pattern[str] | None = None
        self.partitions: frozenset[TopicPartition] = frozenset()
        self.listener: ConsumerRebalanceListener | None = None
        self.paused: set[TopicPartition] = set()

    @property
    def is_manual(self) -> bool:
        """True after assign()."""
        return bool(self.partitions)

    @property
    def is_automatic(self) -> bool:
        """True after subscribe()."""
        return bool(self.topics) or self.pattern is not None

    def subscribe(
        self,
        topics: Iterable[str],
        pattern: str | re.Pattern[str] | None,
        listener: ConsumerRebalanceListener | None,
    ) -> None:
        """Replace the wish by topics or by a pattern.

        Raises IllegalStateError, InvalidTopicError, TypeError.
        """
        if self.is_manual:
            raise IllegalStateError(
                "partitions were assigned by hand; call unsubscribe() before subscribe()"
            )
        if isinstance(topics, str):
            raise TypeError(f"subscribe takes a list of topics, not a str; use [{topics!r}]")
        names = frozenset(check_topic_name(topic) for topic in topics)
        if bool(names) == (pattern is not None):
            raise IllegalStateError("subscribe takes either topics or a pattern, and one of them")
        if listener is not None and not isinstance(listener, ConsumerRebalanceListener):
            raise TypeError(
                f"the listener must be a ConsumerRebalanceListener, not {type(listener).__name__}"
            )
        self.topics = names
        self.pattern = None if pattern is None else re.compile(pattern)
        self.listener = listener

    def assign(self, partitions: Iterable[TopicPartition]) -> None:
        """Replace the wish by partitions. Raises IllegalStateError, TypeError."""
        if self.is_automatic:
            raise IllegalStateError("topics are subscribed; call unsubscribe() before assign()")
        wanted = frozenset(partitions)
        for partition in wanted:
            if not isinstance(partition, TopicPartition):
                raise TypeError(f"assign takes TopicPartitions, not {type(partition).__name__}")
        self.partitions = wanted
        self.paused &= wanted

    def clear(self) -> None:
        """Want nothing."""
        self.topics = frozenset()
        self.pattern = None
        self.partitions = frozenset()
        self.listener = None
        self.paused = set()

    def matching(self, existing: Collection[str]) -> frozenset[str]:
        """The topics that are wanted now: the named ones, or those that the pattern matches."""
        if self.pattern is None:
            return self.topics
        return frozenset(
            name
            for name in existing
            if self.pattern.match(name) and not name.startswith(INTERNAL_PREFIX)
        )
