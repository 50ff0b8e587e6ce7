"""Every error the bus raises, as one shallow tree.

Names follow kafka-python wherever the meaning is the same. Every class can be made from one
message, because errors of the broker travel to its clients as a class name and a message.
"""


class BusError(Exception):
    """The root of all errors of the bus (kafka-python: KafkaError)."""

    #: True if the same call may succeed later without any change by the caller.
    retriable: bool = False


class RetriableError(BusError):
    """Raised when the same call may succeed later."""

    retriable = True


class BusTimeoutError(RetriableError, TimeoutError):
    """Raised when a call could not finish within the time it was given."""


class BusConfigurationError(BusError, ValueError):
    """Raised when an option or a topic config has a value that the bus cannot accept."""


class IllegalStateError(BusError):
    """Raised when a call does not fit the state of the object it is made on."""


class ClosedError(IllegalStateError):
    """Raised when a producer, consumer, admin or broker handle is used after close()."""


# ------------------------------------------------------------------ topics and partitions


class UnknownTopicOrPartitionError(RetriableError):
    """Raised when a topic, or a partition of it, does not exist."""


class TopicAlreadyExistsError(BusError):
    """Raised when a topic is created that is there already."""


class InvalidTopicError(BusError, ValueError):
    """Raised when a topic name has forbidden characters or a forbidden length."""


class InvalidPartitionsError(BusError, ValueError):
    """Raised when a number of partitions is out of range or smaller than the present one."""


# ------------------------------------------------------------------------ records and offsets


class MessageSizeTooLargeError(BusError, ValueError):
    """Raised when a record is larger than the topic's max.message.bytes."""


class SerializationError(BusError, TypeError):
    """Raised when a key, value or header cannot be turned into bytes, or back."""


class DeserializationError(SerializationError):
    """Raised when a key or value of a record is not what the consumer's deserializer takes.

    Attributes: `topic`, `partition` and `offset` of the record. The consumer goes on behind it.
    """

    def __init__(
        self, message: str = "", *, topic: str = "", partition: int = -1, offset: int = -1
    ) -> None:
        super().__init__(message)
        self.topic = topic
        self.partition = partition
        self.offset = offset


class MissingLibraryError(BusError, ImportError):
    """Raised when a format is asked for whose library is not installed; names what to install."""


class UnsupportedCodecError(BusError):
    """Raised when a compression codec is not known or its library is not installed."""


class OffsetOutOfRangeError(BusError):
    """Raised when an offset is below the log start or above the log end."""


class NoOffsetForPartitionError(BusError):
    """Raised when a group has no offset and auto_offset_reset is "none"."""


class OffsetMetadataTooLargeError(BusError, ValueError):
    """Raised when the metadata string of a commit does not fit its offset entry."""


class CorruptRecordError(BusError):
    """Raised when a frame in a segment does not validate.

    Attributes: `topic`, `partition`, `file`, `segment` (number or file name), `position` (bytes
    into the segment), `offset` (the offset that was expected there, -1 if unknown), `reason`, and
    `next_offset`: the records from `offset` to before it cannot be read, the one there can; -1 if
    unknown. A consumer that seeks to it goes on behind the damage; until then every poll raises.
    """

    def __init__(
        self,
        message: str = "",
        *,
        segment: int | str = "",
        position: int = -1,
        offset: int = -1,
        reason: str = "",
        topic: str = "",
        partition: int = -1,
        file: str = "",
        next_offset: int = -1,
    ) -> None:
        super().__init__(message)
        self.topic = topic
        self.partition = partition
        self.file = file
        self.next_offset = next_offset
        self.segment = segment
        self.position = position
        self.offset = offset
        self.reason = reason


class RecordsLostError(CorruptRecordError):
    """Raised when records were damaged in the hot log before they were durable: they are gone.

    A consumer raises it where they stood; a future with acks="all" raises it for such a record.
    Attributes as of CorruptRecordError.
    """


class CorruptSegmentError(BusError):
    """Raised when the header of a segment, or of another file of the bus, does not validate."""


# ------------------------------------------------------------------------------------ groups


class InvalidGroupIdError(BusError, ValueError):
    """Raised when a group id is empty, too long or not text."""


class GroupIdNotFoundError(BusError):
    """Raised when a group does not exist."""


class InconsistentGroupProtocolError(BusError):
    """A group is either a stream group or a share group, and this member is of the other kind."""


class NonEmptyGroupError(BusError):
    """Raised when a call needs a group without members."""


class CommitFailedError(BusError):
    """Raised when a commit is refused: this member no longer owns the partition."""


class RebalanceInProgressError(RetriableError):
    """Raised when a call must wait until the group has settled."""


class IllegalGenerationError(BusError):
    """Raised when a member acts for a generation of the group that is over."""


class UnknownMemberIdError(BusError):
    """Raised when a member is not, or no longer, part of the group."""


# ------------------------------------------------------------------------- broker and clients


class BrokerNotRunningError(RetriableError):
    """Raised when no broker answers in the bus directory, and none could be started."""


class OutcomeUnknownError(BusError):
    """Raised when a record may or may not be in the log, because the bus left the hot directory.

    It is not sent again by itself: it could be there twice then.
    """


class BrokerAlreadyRunningError(BusError):
    """Raised when a second broker is started for the same bus directory."""


class TooManyClientsError(RetriableError):
    """Raised when every client slot of the bus is taken."""


class NamespaceError(BusError):
    """Raised when attaching from another pid namespace than the broker's."""


class UnsupportedVersionError(BusError):
    """Raised when a file, a broker or an address needs a version that this bus does not speak."""


class LockTimeoutError(BusTimeoutError):
    """Raised when a shared lock was not free in time; the message says who holds it.

    Attributes: `owner_tid` and `owner_pid`, the thread that holds it and its process (0: unknown).
    """

    def __init__(self, message: str = "", *, owner_tid: int = 0, owner_pid: int = 0) -> None:
        super().__init__(message)
        self.owner_tid = owner_tid
        self.owner_pid = owner_pid


class ReplicaFailedError(BusError):
    """Raised when a partition's replica has stopped for good: nothing becomes durable any more."""


class BackpressureError(BusTimeoutError):
    """Raised when a producer waited `max_block_ms` for room; the message says for whom."""


class AuthorizationError(BusError):
    """Raised when a user may not do something on another user's bus; says who can allow it."""


class TopicAuthorizationFailedError(AuthorizationError):
    """Raised when a user may not read or write a topic of another user's bus."""


class GroupAuthorizationFailedError(AuthorizationError):
    """Raised when a user may not do something to a consumer group of another user's bus."""


class ClusterAuthorizationFailedError(AuthorizationError):
    """Raised when a user may not do something that only the owner of a bus may do."""


# ------------------------------------------------------------------------------------ storage


class DirectoryError(BusError):
    """Raised when a bus directory cannot be found, opened, read or written."""


class UnsafeDirectoryError(DirectoryError):
    """Raised when a file or directory belongs to, or is writable by, somebody else."""


class ReadOnlyDirectoryError(DirectoryError, PermissionError):
    """Raised when a bus directory cannot be written: its mode or its filesystem forbids it."""


class NoSpaceError(RetriableError):
    """Raised when a filesystem has no room, or the quota is used up."""


# kafka-python's names for the same things
KafkaError = BusError
KafkaTimeoutError = BusTimeoutError
KafkaConfigurationError = BusConfigurationError


def error_named(name: str, message: str) -> BusError:
    """The error of class `name`, as a broker reports it; a BusError if the name is not known."""
    found = globals().get(name)
    if isinstance(found, type) and issubclass(found, BusError):
        return found(message)
    return BusError(f"{name}: {message}")
