"""Types of what native/acks.pxi and native/share.pxi add to the compiled core."""

from collections.abc import Callable, Sequence
from typing import Any, Self

from bus.errors import IllegalStateError
from bus.native.core import Bells, ConsumerCore, ConsumerRecord, Cursor, HotLog, Table
from bus.native.tuples import Acknowledged, Claimed

class AckTable(Table):
    """Who works on which record of one partition."""

    client: int
    path: str
    identity: tuple[int, int, int, int]
    low: int
    keyed: bool
    def __init__(self, fd: int, *, bells: Bells | None = None, client: int = -1) -> None: ...
    @staticmethod
    def bytes_needed() -> int: ...
    def begin(
        self,
        bus_id: int,
        group_id: int,
        topic_id: int,
        partition: int,
        offset: int,
        keyed: bool = False,
    ) -> None: ...
    def attach(self, generation: int, reader: int) -> None: ...
    def detach(self) -> int: ...
    def attempts(self, offset: int) -> tuple[int, int, int, int, int] | None: ...
    def held_by(self, client: int) -> int: ...
    def claimants(self) -> list[tuple[int, int]]: ...
    def figures(self) -> dict[str, int]: ...
    def reap(self, client: int, generation: int, wait_ms: float) -> int: ...
    def mark_deleted(self, wait_ms: float) -> None: ...
    def snapshot(self, wait_ms: float) -> Acknowledged: ...
    def restore(
        self,
        base: int,
        after: int,
        done: Sequence[tuple[int, int]],
        left: Sequence[Claimed],
        parked: Sequence[tuple[int, int]] = (),
    ) -> None: ...

class ShareCursor(Cursor):
    acks: AckTable
    want: int
    running: bool
    def __init__(
        self,
        acks: AckTable,
        log: HotLog,
        topic: str,
        *,
        generation: int,
        owner: object,
        check_crcs: bool = True,
        durable_only: bool = False,
        key_deserializer: Callable[[bytes], Any] | None = None,
        value_deserializer: Callable[[Any], Any] | None = None,
    ) -> None: ...
    def hold(self) -> int: ...
    def detach(self) -> None: ...

class ShareCore(ConsumerCore):
    _prefetch: bool
    _commit_ns: int
    def _serve(self, cursors: list[Any]) -> None: ...
    def _settle(
        self, record: ConsumerRecord, state: int, cause: int = 0, delay_ms: float = -1
    ) -> bool: ...
    def _attempts(self, record: ConsumerRecord) -> tuple[int, int, int, int, int] | None: ...
    def ack(self, *records: ConsumerRecord) -> None: ...
    def __iter__(self) -> Self: ...
    def __next__(self) -> ConsumerRecord: ...

def not_held(records: list[ConsumerRecord]) -> IllegalStateError: ...
