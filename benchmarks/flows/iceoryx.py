"""iceoryx2's Python binding: publish-subscribe of byte slices; waiting by polling or by events."""

import ctypes
import os
from typing import Any, ClassVar

import iceoryx2 as iox2

from benchmarks.flows.base import IN_PLACE_BYTES, Flow, touch

#: Records that may wait for the subscriber; the pool of the publisher has a few more.
BUFFERED_RECORDS = 64
POLL_S = 1


class IceoryxFlow(Flow):
    """Lossless (`RetryUntilDelivered`, no overflow); the receiver polls, as in its examples."""

    name: ClassVar[str] = "iceoryx2"
    _opened: ClassVar[int] = 0

    def open(self) -> None:
        IceoryxFlow._opened += 1
        self._service_name = f"bench/{os.getpid()}/{IceoryxFlow._opened}"

    def attach_sender(self) -> None:
        service = self._attach()
        builder = service.publisher_builder().initial_max_slice_len(self.record_bytes)
        self._publisher: Any = builder.backpressure_strategy(
            iox2.BackpressureStrategy.RetryUntilDelivered
        ).create()

    def attach_receiver(self) -> None:
        self._subscriber: Any = self._attach().subscriber_builder().create()

    def _attach(self) -> Any:
        iox2.set_log_level(iox2.LogLevel.Error)
        self._node: Any = iox2.NodeBuilder.new().create(iox2.ServiceType.Ipc)
        return (
            self._node.service_builder(iox2.ServiceName.new(self._service_name))
            .publish_subscribe(iox2.Slice[ctypes.c_uint8])
            .enable_safe_overflow(False)
            .subscriber_max_buffer_size(BUFFERED_RECORDS)
            .open_or_create()
        )

    def detach(self) -> None:
        for port in ("_publisher", "_subscriber", "_notifier", "_listener"):
            if hasattr(self, port):
                getattr(self, port).delete()
                delattr(self, port)
        del self._node  # a node that is not dropped leaves files behind

    def send_one(self, payload: bytes) -> object:
        sample = self._publisher.loan_slice_uninit(len(payload))
        ctypes.memmove(sample.payload_ptr, payload, len(payload))
        sample.assume_init().send()
        return None

    def receive_one(self) -> int:
        receive = self._subscriber.receive
        sample = receive()
        while sample is None:
            self._idle()
            sample = receive()
        size = self._read(sample)
        sample.delete()
        return size

    def _idle(self) -> None:
        """Nothing has come yet: polls again at once."""

    def _read(self, sample: Any) -> int:
        if self.record_bytes >= IN_PLACE_BYTES:
            return touch(sample.payload().as_memory_view().cast("B"))
        return len(ctypes.string_at(sample.payload_ptr, self.record_bytes))


class IceoryxEventFlow(IceoryxFlow):
    """The same, each record announced through an event service on which the receiver sleeps."""

    def attach_sender(self) -> None:
        super().attach_sender()
        self._notifier: Any = self._event_service().notifier_builder().create()

    def attach_receiver(self) -> None:
        super().attach_receiver()
        self._listener: Any = self._event_service().listener_builder().create()

    def _event_service(self) -> Any:
        name = iox2.ServiceName.new(self._service_name + "/event")
        return self._node.service_builder(name).event().open_or_create()

    def send_one(self, payload: bytes) -> object:
        super().send_one(payload)
        return self._notifier.notify()

    def _idle(self) -> None:
        self._listener.timed_wait(iox2.Duration.from_secs(POLL_S))
