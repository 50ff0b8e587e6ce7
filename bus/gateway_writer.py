"""What a guest writes: received as bytes, checked, and appended by a producer of the gateway."""

from typing import TYPE_CHECKING, Final

from bus.errors import BusError, TopicAuthorizationFailedError
from bus.headers import decode_headers
from bus.native.core import Parts
from bus.producer import Producer
from bus.wire import STORED, STORED_BODY, GuestRecord, MalformedError, pack

if TYPE_CHECKING:
    from bus.gateway_guest import Guest
    from bus.native.core import RecordFuture

#: how long a record waits for room, and then to be durable
MAX_BLOCK_MS: Final = 30_000
DURABLE_TIMEOUT_S: Final = 60.0
#: records that are appended before one wait for the disk answers them all
BATCH_MAX: Final = 256


class GuestWriter:
    """The producers of one guest, by what `acks` it asks for."""

    def __init__(self, guest: "Guest") -> None:
        self._guest = guest
        self._producers: dict[int | str, Producer] = {}
        #: appended, and not answered yet
        self._waiting: list[tuple[int, RecordFuture]] = []

    def store(self, number: int, body: bytes) -> None:
        """Append a record; answer it, and those before it, when no other one is on its way.

        Raises MalformedError, HangUpError.
        """
        record = GuestRecord.unpack(body)
        try:
            self._guest.allowed(record.topic, "write")
            future = self._append(record)
        except TopicAuthorizationFailedError as error:
            self._refuse(number, error)
        except BusError as error:
            if isinstance(error, MalformedError):
                raise
            self._refuse(number, error)
        else:
            self._waiting.append((number, future))
        if len(self._waiting) >= BATCH_MAX or not self._guest.is_calling():
            self._answer_all()

    def _refuse(self, number: int, error: BusError) -> None:
        self._answer_all()
        self._guest.fail(number, error)

    def _append(self, record: GuestRecord) -> "RecordFuture":
        producer = self._producers.get(record.acks)
        if producer is None:
            producer = self._producers[record.acks] = self._producer(record.acks)
        return producer.send(
            record.topic,
            Parts([record.value]) if record.in_parts else record.value,
            key=record.key,
            headers=decode_headers(record.headers),
            partition=None if record.partition < 0 else record.partition,
            timestamp_ms=None if record.timestamp_ms < 0 else record.timestamp_ms,
        )

    def _producer(self, acks: int | str) -> Producer:
        peer = self._guest.peer
        return Producer(
            self._guest.gateway.directory.path,
            client_id=f"guest {peer.name} pid {peer.pid}",
            acks="all" if acks == "all" else 1,
            max_block_ms=MAX_BLOCK_MS,
            autostart=False,
        )

    def _answer_all(self) -> None:
        """The last of a batch is durable last, so the others wait no longer than it does."""
        waiting, self._waiting = self._waiting, []
        answers: list[bytes] = []
        for number, future in waiting:
            try:
                stored = future.get(DURABLE_TIMEOUT_S)
            except BusError as error:
                self._guest.reply(b"".join(answers))
                answers = []
                self._guest.fail(number, error)
                continue
            place = STORED_BODY.pack(stored.partition, stored.offset, stored.timestamp)
            answers.append(pack(STORED, number, place))
        if answers:
            self._guest.reply(b"".join(answers))

    def close(self) -> None:
        """What was appended stays in the log; nobody waits for it any more."""
        for producer in self._producers.values():
            producer._client.close()
