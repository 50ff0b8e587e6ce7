"""What both kinds of consumers read through have in common: a bus, topics, and their ends."""

import logging
from collections.abc import Collection
from typing import Generic, TypeVar

from bus.catalog import Topic
from bus.client import Client
from bus.errors import BrokerNotRunningError, BusError, UnknownTopicOrPartitionError
from bus.lease import Lease
from bus.structs import TopicPartition
from bus.subscription import Subscription

logger = logging.getLogger(__name__)

#: what reads one partition
R = TypeVar("R")


class Fetching(Generic[R]):
    """The part of a fetcher that follows the bus and its catalog. Used by one thread at a time."""

    #: what is lost with the bus, and so is said when it was stopped
    _LEFT = ""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.subscription = Subscription()
        self.readers: dict[TopicPartition, R] = {}
        #: where reading goes on after the bus has moved, unless more was committed since
        self.resume_at: dict[TopicPartition, int] = {}
        #: the catalog version that was last followed
        self.catalog_seen = -1
        self._lease = Lease(client)
        self._met: set[str] = set()
        #: readers and membership belong to the bus that the client was attached to by then
        self._attachments = client.attachments

    @property
    def is_pending(self) -> bool:
        """True while another member still holds a partition that is planned for this one."""
        return False

    def coordinate(self) -> None:
        """Bring what is read in line with the group and the catalog; commit if that is due.

        Raises BrokerNotRunningError when the bus was stopped, also if it has been started again
        since and the client has attached to the new one over some other call.
        """
        if self._is_over():
            raise self._stopped()
        try:
            self._coordinate()
        except BusError as error:
            if self._is_over():  # in the middle of it: then that is the cause
                raise self._stopped() from error
            raise

    def _is_over(self) -> bool:
        return self.client.stopping or self.client.attachments != self._attachments

    def _stopped(self) -> BrokerNotRunningError:
        return BrokerNotRunningError(
            f"the bus in {self.client.directory.path} was stopped{self._LEFT}; make a new consumer"
            " once it runs again"
        )

    def _coordinate(self) -> None:
        version = self.client.catalog_version()
        if version != self.catalog_seen:
            self.catalog_seen = version
            self._follow_catalog()

    def _follow_catalog(self) -> None:
        """Topics or partitions came or went."""
        raise NotImplementedError

    def follow_subscription(self) -> None:
        """The subscription has changed."""
        self.catalog_seen = -1
        self._met = set()

    def due_ns(self) -> int:
        """When `coordinate` wants to be called again, on the monotonic clock."""
        raise NotImplementedError

    def abandon(self) -> None:
        """In a forked child, or after a move: forget the readers; touch nothing shared."""
        raise NotImplementedError

    def _existing(self, names: Collection[str]) -> dict[str, Topic]:
        """The topics of these names. One that was asked for by name and is new to us is created.

        A deleted one is not, nor one that a pattern has found: it may be deleted since we looked.
        """
        found = {}
        for name in sorted(names):
            is_new = self.subscription.pattern is None and name not in self._met
            try:
                found[name] = self.client.topic(name, create=is_new)
            except UnknownTopicOrPartitionError as error:
                if is_new:
                    raise
                logger.warning("%s; it is read again when it is there again", error)
            self._met.add(name)
        return found
