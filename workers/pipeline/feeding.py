"""Sends the items of a source into its topic, in a thread of the program.

Each item carries its number. A durable pipeline that is run again sends only the items behind the
last one that is there: the same items are expected to come in the same order.
"""

import threading
from collections.abc import Iterable
from typing import Any, Final

import bus
from bus.errors import BackpressureError, LockTimeoutError
from workers.pipeline.coordinates import ITEM, value_of
from workers.pipeline.values import Format

#: A send that finds no room is tried again after so long.
SLICE_MS: Final = 100
#: The last item stands among so many records before the end: a crash may leave gaps.
_LAST_RECORDS: Final = 1000


class Feeder:
    """Attributes: `fed` (items so far), `held_up` (why it waits now, or ""), `error`."""

    def __init__(
        self, address: str, topic: str, items: Iterable[Any], values: Format | None, durable: bool
    ) -> None:
        self._items = items
        self._topic = topic
        self._address = address
        self._producer = bus.Producer(
            address,
            client_id=topic,
            acks="all" if durable else 1,
            value_serializer=values,
            max_block_ms=SLICE_MS,
        )
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"feeds {topic}", daemon=True)
        self._sending = False
        self.fed = 0
        self.held_up = ""
        self.error: BaseException | None = None

    def start(self) -> None:
        """Begins."""
        self._thread.start()

    @property
    def is_done(self) -> bool:
        """True if no more will be sent; the iterable may still be making its next item."""
        if self._stopping.is_set() and not self._sending:
            return True
        return self._thread.ident is not None and not self._thread.is_alive()

    def stop(self) -> None:
        """Sends no more; does not wait for an iterable that makes its next item."""
        self._stopping.set()

    def close(self) -> None:
        """Leaves the bus."""
        self.stop()
        self._producer.close()

    def _run(self) -> None:
        try:
            skipped = self._items_there()
            for number, item in enumerate(self._items):
                if number < skipped:
                    continue
                self._sending = True  # before the look at _stopping: see is_done
                sent = self._send(number, item)
                self._sending = False
                if not sent:
                    return
            self._producer.flush()
        except Exception as error:  # noqa: BLE001 - whatever the iterable raises is told
            if not self._stopping.is_set():
                self.error = error

    def _send(self, number: int, item: Any) -> bool:
        headers = [(ITEM, str(number).encode())]
        while not self._stopping.is_set():
            try:
                self._producer.send(self._topic, item, None, headers)
            except (BackpressureError, LockTimeoutError) as error:
                self.held_up = str(error)
                continue
            self.held_up = ""
            self.fed += 1
            return True
        return False

    def _items_there(self) -> int:
        """How many items an earlier run has sent."""
        place = bus.TopicPartition(self._topic, 0)
        with bus.Consumer(bootstrap_servers=self._address) as consumer:
            consumer.assign([place])
            start = consumer.beginning_offsets([place])[place]
            end = consumer.end_offsets([place])[place]
            consumer.seek(place, max(start, end - _LAST_RECORDS))
            last = -1
            while consumer.position(place) < end:
                for record in consumer.poll(max_records=_LAST_RECORDS).get(place, []):
                    last = int(value_of(record.headers, ITEM) or b"-1")
        return last + 1
