# What a send returns: where the record is, and whether it is as safe as `acks` asked for.
from bus.structs import RecordMetadata


@cython.final
@cython.no_gc # refers to nothing that can refer to it: a cycle is impossible
@cython.freelist(256)
cdef class RecordFuture:
    """The fate of a sent record: it is in the log; with acks="all" it may not be durable yet.

    A future holds no lock and no thread: it looks at the partition's high watermark when asked.
    """
    cdef ProducerCore producer
    cdef HotLog log
    cdef str topic
    cdef readonly int64_t offset
    cdef int64_t timestamp
    cdef int64_t key_size
    cdef int64_t value_size

    @property
    def partition(self):
        return self.log.partition

    @property
    def is_done(self):
        """True as soon as the record is as safe as `acks` asked for."""
        return not self.producer.wait_durable or (
            self.log.durable_end() > <uint64_t>self.offset and not self.is_lost())

    cdef bint is_lost(self):
        """The watermark passes what was lost before it was durable: those records are not safe."""
        cdef bus_lost found
        return bus_is_lost(self.log.control, <uint64_t>self.offset, &found)

    def succeeded(self):
        return self.is_done

    def failed(self):
        """True when the record can no longer become as safe as `acks` asked for."""
        return not self.is_done and self.exception is not None

    @property
    def exception(self):
        """Why the record will not become durable, or None."""
        return None if self.is_done else self.producer._failure(self.log, self.offset)

    @property
    def value(self):
        """The RecordMetadata once the future has succeeded, else None."""
        return self.metadata() if self.is_done else None

    cdef object metadata(self):
        return RecordMetadata(self.topic, self.log.partition, self.offset,
                              self.timestamp // 1000000, self.key_size, self.value_size)

    def get(self, timeout=None):
        """Waits until the record is as safe as `acks` asked for, at most `timeout` seconds.

        Returns its RecordMetadata. Raises BusTimeoutError, or what keeps it from becoming durable.
        """
        if self.producer.wait_durable:
            if self.log.durable_end() <= <uint64_t>self.offset:
                self.producer._wait_durable(self.log, self.offset, timeout)
            if self.is_lost():
                raise self.producer._failure(self.log, self.offset)
        return self.metadata()

    def add_callback(self, function, *args, **kwargs):
        """Calls function(*args, metadata, **kwargs) once the future has succeeded; returns self."""
        self.producer._when_done(self, function, None, args, kwargs)
        return self

    def add_errback(self, function, *args, **kwargs):
        """Calls function(*args, exception, **kwargs) if the future fails; returns self."""
        self.producer._when_done(self, None, function, args, kwargs)
        return self

    def add_both(self, function, *args, **kwargs):
        """Calls function with the metadata or with the exception; returns self."""
        self.producer._when_done(self, function, function, args, kwargs)
        return self

    def __await__(self):
        import asyncio
        return asyncio.get_running_loop().run_in_executor(None, self.get).__await__()

    def __repr__(self):
        return (f"<RecordFuture {self.topic}-{self.log.partition} offset {self.offset} "
                f"{'done' if self.is_done else 'pending'}>")
