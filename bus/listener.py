"""What a program may want to know about its consumer's partitions."""

from collections.abc import Collection

from bus.structs import TopicPartition


class ConsumerRebalanceListener:
    """Told when partitions come and go. The calls are made from poll() or the iteration.

    An exception that a method raises comes out of that poll.
    """

    def on_partitions_revoked(self, revoked: Collection[TopicPartition]) -> None:
        """Partitions are about to go to another member; commit what was processed."""

    def on_partitions_assigned(self, assigned: Collection[TopicPartition]) -> None:
        """Partitions have come; seek() may still change where reading begins."""

    def on_partitions_lost(self, lost: Collection[TopicPartition]) -> None:
        """Partitions are gone already: this member was taken for dead. Nothing can be committed."""
        self.on_partitions_revoked(lost)
