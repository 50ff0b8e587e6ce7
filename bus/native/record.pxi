# What a consumer holds: one record, read in place as long as somebody holds it.

cdef class ReaderSlot:
    """This process's place among the readers of a partition: its position and its pins."""
    cdef HotLog log
    cdef bus_reader *slot
    cdef int counts[64] # live pins of this process, by ring slot
    cdef uint64_t born
    cdef object owner   # keeps the client attached, and so its lock held, while pins live

    def __init__(self, HotLog log, uint64_t generation, bint must_wait, uint64_t position, owner):
        self.slot = bus_reader_attach(log.control, log.client_slot, generation,
                                      1 if must_wait else 0, position)
        if self.slot == NULL:
            raise _errors.TooManyClientsError(
                f"all {BUS_READERS} reader slots of {log.name} are in use; close consumers")
        self.born = forks
        self.log = log
        self.owner = owner

    def __dealloc__(self):
        self.release()

    cdef void release(self) noexcept:
        if self.slot != NULL and self.born == forks:
            bus_store32_release(&self.slot.owner, 0)
            bus_wake(&self.log.control.space, &self.log.bells.bells)
        self.slot = NULL

    cdef void end(self) noexcept:
        """No producer need wait for this reader any more; its pins stay until they are dropped."""
        if self.slot != NULL and self.born == forks:
            bus_store32_release(&self.slot.flags, 0)
            bus_wake(&self.log.control.space, &self.log.bells.bells)

    cdef void publish(self, uint64_t position) noexcept:
        """Everything below has been consumed; a producer that waits for that is woken."""
        if self.slot.position == position:
            return
        bus_store_release(&self.slot.position, position)
        bus_wake(&self.log.control.space, &self.log.bells.bells)

    cdef bint pin(self, int slot, uint64_t number):
        if self.counts[slot] == 0 and bus_pin(self.log.control, self.slot, slot, number) != 0:
            return False
        if bus_load_acquire(&self.log.control.ring_numbers[slot]) != number:
            return False # pinned by older records of the segment that was here before
        self.counts[slot] += 1
        return True

    cdef void unpin(self, int slot) noexcept:
        self.counts[slot] -= 1
        if self.counts[slot] == 0 and self.slot != NULL and self.born == forks:
            bus_unpin(self.slot, slot)


@cython.final
cdef class Pin:
    """Keeps one segment readable in place. The last record that points into it lets it go."""
    cdef Mapping mapping
    cdef ReaderSlot reader # None: nothing is held in the ring
    cdef bint hot          # of the ring; a durable segment never changes
    cdef int slot

    def __dealloc__(self):
        if self.reader is not None:
            self.reader.unpin(self.slot)


@cython.final
@cython.no_gc
cdef class HeldValue:
    """The bytes of a value where they lie, for what a deserializer makes of them.

    It holds the pin and not the record: the record holds what was made, and nobody would ever see
    through that circle, which a collector does not look into.
    """
    cdef Pin pin
    cdef const uint8_t *at
    cdef Py_ssize_t length

    def __getbuffer__(self, Py_buffer *buffer, int flags):
        PyBuffer_FillInfo(buffer, self, <void *>self.at, self.length, 1, flags)


@cython.final
cdef class Source:
    """What all records of one partition share."""
    cdef str topic
    cdef int partition
    cdef object key_deserializer
    cdef object value_deserializer
    cdef bint in_place # the value's deserializer takes it where it lies


cdef list decode_headers(const uint8_t *at, uint32_t length):
    cdef const uint8_t *end = at + length
    cdef uint16_t name_length
    cdef int32_t value_length
    headers = []
    while at + 6 <= end:
        memcpy(&name_length, at, 2)
        memcpy(&value_length, at + 2, 4)
        at += 6
        if at + name_length + max(value_length, 0) > end:
            raise _errors.CorruptRecordError("the record's headers do not fit their length")
        try:
            name = (<const char *>at)[:name_length].decode("utf-8")
        except UnicodeDecodeError as error:
            raise _errors.CorruptRecordError(f"a header's name is no UTF-8: {error}") from None
        at += name_length
        value = None
        if value_length >= 0:
            value = PyBytes_FromStringAndSize(<const char *>at, value_length)
            at += value_length
        headers.append((name, value))
    return headers


@cython.final
@cython.no_gc # a batch of 500 must not set off the cycle collector
@cython.freelist(1024)
cdef class ConsumerRecord:
    """One record of a topic. Its bytes are read in place, as long as the record is held.

    `key` and `value` are copied out when they are asked for, and deserialized once. `view()` and
    the buffer protocol (numpy.frombuffer(record, …)) copy nothing: they keep the segment in memory.
    """
    cdef Pin pin
    cdef const uint8_t *at # of its frame in the segment
    cdef bus_frame header  # copied and checked: what stands in the segment may change, its size not
    cdef Source source
    cdef uint64_t position
    cdef readonly int64_t offset
    cdef object made_key
    cdef object made_value

    @property
    def topic(self):
        return self.source.topic

    @property
    def partition(self):
        return self.source.partition

    @property
    def topic_partition(self):
        return TopicPartition(self.source.topic, self.source.partition)

    @property
    def timestamp(self):
        """Milliseconds since the epoch."""
        return self.header.timestamp // 1000000

    @property
    def timestamp_ns(self):
        """Nanoseconds since the epoch."""
        return self.header.timestamp

    @property
    def timestamp_type(self):
        """0: set by the producer (CreateTime), 1: set at the append (LogAppendTime)."""
        return 1 if self.header.attributes & BUS_ATTR_APPEND_TIME else 0

    @property
    def leader_epoch(self):
        """Always None: a partition of one host has one leader."""
        return None

    @property
    def key(self):
        if self.header.attributes & BUS_ATTR_NULL_KEY:
            return None
        if self.source.key_deserializer is None:
            return PyBytes_FromStringAndSize(<const char *>bus_frame_key(self.at),
                                             self.header.key_length)
        if self.made_key is None:
            self.made_key = self.made_of(
                "key", self.source.key_deserializer, PyBytes_FromStringAndSize(
                    <const char *>bus_frame_key(self.at), self.header.key_length))
        return self.made_key

    @property
    def value(self):
        if self.header.attributes & BUS_ATTR_NULL_VALUE:
            return None
        if self.source.value_deserializer is None:
            return self.value_bytes()
        if self.made_value is None:
            self.made_value = self.made_of(
                "value", self.source.value_deserializer,
                self.held_value() if self.source.in_place else self.value_bytes())
        return self.made_value

    cdef object made_of(self, str what, object deserializer, object data):
        try:
            return deserializer(data)
        except _errors.SerializationError as error:
            raise _errors.DeserializationError(
                f"the {what} at offset {self.offset} of partition {self.source.partition} of topic "
                f"{self.source.topic!r}: {error}", topic=self.source.topic,
                partition=self.source.partition, offset=self.offset) from error

    cdef object held_value(self):
        cdef HeldValue value = HeldValue.__new__(HeldValue)
        value.pin = self.pin
        value.at = bus_frame_value(self.at, &self.header, self.position)
        value.length = self.header.value_length
        return PyMemoryView_FromObject(value)

    cdef bytes value_bytes(self):
        return PyBytes_FromStringAndSize(
            <const char *>bus_frame_value(self.at, &self.header, self.position),
            self.header.value_length)

    @property
    def headers(self):
        """List of (name, value) pairs; a value is bytes or None."""
        return decode_headers(bus_frame_headers(self.at, &self.header),
                              self.header.headers_length)

    @property
    def serialized_key_size(self):
        return -1 if self.header.attributes & BUS_ATTR_NULL_KEY else self.header.key_length

    @property
    def serialized_value_size(self):
        return -1 if self.header.attributes & BUS_ATTR_NULL_VALUE else self.header.value_length

    @property
    def serialized_header_size(self):
        return self.header.headers_length

    def view(self):
        """The value in place: a read-only memoryview, valid for as long as it is held."""
        return PyMemoryView_FromObject(self)

    def __getbuffer__(self, Py_buffer *buffer, int flags):
        PyBuffer_FillInfo(buffer, self,
                          <void *>bus_frame_value(self.at, &self.header, self.position),
                          self.header.value_length, 1, flags)

    def __repr__(self):
        return (f"ConsumerRecord(topic={self.topic!r}, partition={self.partition}, "
                f"offset={self.offset}, timestamp={self.timestamp}, key={self.key!r}, "
                f"value={self.value!r}, headers={self.headers!r})")
