"""Large numpy arrays: in place through the bus, pickled through a queue, both ways over pyzmq."""

import itertools
import pickle
from collections.abc import Callable
from typing import Any, ClassVar

import numpy

import bus
from benchmarks.flows.base import Flow, touch
from benchmarks.flows.busflow import BusFlow
from benchmarks.flows.standard import QueueFlow
from benchmarks.flows.zeromq import ZeroMqFlow

Array = numpy.ndarray[Any, Any]
#: The ring holds so many arrays, one in each segment: one is written while others are read.
RING_ARRAYS = 5
#: Beyond the array, a segment has room for its header, the record's and the array's.
ROOM_BYTES = 1 << 20


def as_array(payload: bytes) -> Array:
    """The payload as numbers, where it lies."""
    return numpy.frombuffer(payload, numpy.float64)


def read(array: Any) -> int:
    """Reads a byte of every page of an array."""
    return touch(memoryview(array).cast("B"))


class ArrayFlow(Flow):
    """Sends the payload as an array, made once."""

    def send(self, payload: bytes, count: int) -> None:
        send_one: Callable[[Any], object] = self.send_one
        for array in itertools.repeat(as_array(payload), count):
            send_one(array)

    def receive(self, count: int) -> int:
        return sum(self.receive_one() for _ in range(count))


class ArrayBusFlow(ArrayFlow, BusFlow):
    """`value_serializer="numpy"`, in a topic whose ring has room for a few arrays."""

    #: Twice around the ring: its first files are those of a small log that grows.
    warm_bytes: ClassVar[int] = 2 * RING_ARRAYS * 100_000_000

    def open(self) -> None:
        super().open()
        segment = self.record_bytes + ROOM_BYTES
        configs = {
            "max.message.bytes": str(segment),
            "segment.bytes": str(segment),
            "hot.bytes": str(RING_ARRAYS * segment),
        }
        with bus.Admin(self._path) as admin:
            admin.alter_configs({self._topic: configs})

    def attach_sender(self) -> None:
        self._producer = bus.Producer(self._path, acks=1, value_serializer="numpy")
        self._producer.partitions_for(self._topic)

    def attach_receiver(self) -> None:
        super().attach_receiver()
        self._consumer.close()
        self._consumer = bus.Consumer(
            bootstrap_servers=self._path, auto_offset_reset="earliest", value_deserializer="numpy"
        )
        self._consumer.assign([bus.TopicPartition(self._topic, 0)])
        self._consumer.seek_to_beginning()
        self._consumer.poll(0)
        self._records = iter(self._consumer)

    def send_one(self, payload: Any) -> object:
        array = as_array(payload) if isinstance(payload, bytes) else payload
        return self._producer.send(self._topic, array)

    def receive_one(self) -> int:
        return read(next(self._records).value)


class ArrayQueueFlow(ArrayFlow, QueueFlow):
    """`Queue.put(array)`: pickled by a thread, through a pipe."""

    def receive_one(self) -> int:
        return read(self._queue.get())


class PickledZeroMqFlow(ArrayFlow, ZeroMqFlow):
    """`send_pyobj` and `recv_pyobj`, as pyzmq's guide has it for objects."""

    name: ClassVar[str] = "pyzmq, pickled"

    def send_one(self, payload: Any) -> object:
        return self._socket.send_pyobj(payload, protocol=pickle.HIGHEST_PROTOCOL)

    def receive_one(self) -> int:
        return read(self._socket.recv_pyobj())


class BareZeroMqFlow(ArrayFlow, ZeroMqFlow):
    """The array's buffer itself with `copy=False`, as pyzmq's guide has it for numpy arrays."""

    name: ClassVar[str] = "pyzmq, copy=False"

    def send_one(self, payload: Any) -> object:
        return self._socket.send(payload, copy=False)

    def receive_one(self) -> int:
        return read(numpy.frombuffer(self._socket.recv(copy=False).buffer, numpy.float64))
