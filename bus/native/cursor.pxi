# Reading one partition in order, across both tiers, and waiting for more.
from bus.structs import TopicPartition


cdef class Cursor:
    """The next record to read of one partition.

    A subclass says where durable segments are: `open_cold(offset)` returns a Mapping of the durable
    segment that holds the offset, or of the next one after it, or None.
    """
    cdef readonly HotLog log
    cdef readonly object topic_partition
    cdef ReaderSlot reader
    cdef Source source
    cdef readonly uint64_t offset # of the next record to deliver
    cdef uint64_t number          # segment and position of that record, if `placed`
    cdef uint64_t position
    cdef uint64_t limit           # bytes of the pinned segment that may be read
    cdef bint placed
    cdef bint active              # the pinned segment was the one being written
    cdef bint from_cold           # a durable segment is being entered
    cdef Pin pin
    cdef public bint check_crcs
    cdef public bint durable_only
    cdef readonly uint64_t gaps   # records lost to overflow=drop

    def __init__(self, HotLog log not None, str topic not None, uint64_t offset, *,
                 uint64_t generation=0, owner=None, bint check_crcs=True, bint durable_only=False,
                 key_deserializer=None, value_deserializer=None):
        must_wait = not (log.replicated or log.flags & BUS_FLAG_DROP)
        self.begin(log, topic, offset, check_crcs, durable_only, key_deserializer,
                   value_deserializer)
        self.reader = ReaderSlot(log, generation, must_wait, offset, owner)

    cdef int begin(self, HotLog log, str topic, uint64_t offset, bint check_crcs,
                   bint durable_only, key_deserializer, value_deserializer) except -1:
        """Everything but a place among the partition's readers."""
        self.log = log
        self.topic_partition = TopicPartition(topic, log.partition)
        self.source = Source.__new__(Source)
        self.source.topic = topic
        self.source.partition = log.partition
        self.source.key_deserializer = key_deserializer
        self.source.value_deserializer = value_deserializer
        self.offset = offset
        self.check_crcs = check_crcs
        self.durable_only = durable_only
        return 0

    def open_cold(self, offset):
        """Mapping of the durable segment with this offset or the next one after it, or None."""
        return None

    def close(self):
        """Lets go of the partition; records that are still held stay readable."""
        self.pin = None
        if self.reader is not None:
            self.reader.end()
        self.reader = None

    def seek(self, uint64_t offset):
        self.offset = offset
        self.placed = False
        self.pin = None
        self.publish()

    cdef int rewind(self) except -1:
        """Back to where `publish` was called last."""
        if self.reader is not None and self.reader.slot.position != self.offset:
            self.seek(self.reader.slot.position)
        return 0

    def publish(self):
        """Tells producers that every record below `offset` has been consumed."""
        self.reader.publish(self.offset)

    # ---- finding the place

    cdef int place(self, Pin pin, uint64_t number, uint64_t position, uint64_t limit,
                   bint active) except -1:
        self.pin = pin
        self.number = number
        self.position = position
        self.limit = limit
        self.active = active
        self.placed = True
        return 0

    cdef Pin pin_hot(self, uint64_t number):
        """A pin on a hot segment, or None when it is not in the ring (any more)."""
        cdef int slot = bus_slot_of(self.log.control, number) if number else -1
        cdef Pin pin
        if slot < 0 or not self.reader.pin(slot, number):
            return None
        pin = Pin.__new__(Pin)
        pin.reader = self.reader
        pin.slot = slot
        pin.mapping = self.log.map_slot(slot)
        if pin.mapping is None or bus_load_acquire(&self.log.control.ring_numbers[slot]) != number:
            return None
        return pin

    cdef uint64_t hot_limit(self, Pin pin, uint64_t number, uint64_t tail):
        if BUS_TAIL_NUMBER(tail) == number:
            return min(BUS_TAIL_POSITION(tail), pin.mapping.bytes)
        return pin.mapping.bytes

    cdef uint64_t hot_candidate(self, uint64_t offset, uint64_t tail, uint64_t *base):
        """Number of the hot segment with the offset, or of the first one behind it; 0: none."""
        cdef bus_partition *control = self.log.control
        cdef uint64_t number, best = 0, first
        cdef int slot
        base[0] = UINT64_MAX
        for slot in range(BUS_RING_SLOTS):
            number = bus_load_acquire(&control.ring_numbers[slot])
            if number == 0 or number > BUS_TAIL_NUMBER(tail):
                continue
            first = bus_load_acquire(&control.ring[slot].base_offset)
            if number != BUS_TAIL_NUMBER(tail) and \
                    bus_load_acquire(&control.ring[slot].end_offset) <= offset:
                continue
            if first < base[0] or (first == base[0] and number < best):
                best = number
                base[0] = first
        return best

    cdef bint locate(self) except -1:
        """Pins the segment of `offset`. False: nothing is there yet."""
        cdef uint64_t end, tail, number, base, before, start = self.log.start()
        cdef Pin pin
        if self.offset < start:
            self.fell_behind(start)
        while True:
            tail = self.log.log_end(&end)
            if self.offset > end:
                raise _errors.OffsetOutOfRangeError(
                    f"offset {self.offset} is behind the log end {end}")
            if self.offset == end:
                self.place(None, BUS_TAIL_NUMBER(tail), BUS_TAIL_POSITION(tail), 0, True)
                return False
            number = self.hot_candidate(self.offset, tail, &base)
            before = self.offset
            if base > self.offset:
                if self.locate_cold(base):
                    return True
                if self.offset != before: # across a gap: look what is there
                    continue
                if self.offset < self.log.start(): # retention was faster than we
                    self.fell_behind(self.log.start())
                    continue
            pin = self.pin_hot(number)
            if pin is None:
                if self.offset < self.log.start():
                    self.fell_behind(self.log.start())
                continue # the segment left the ring just now: look again
            if self.enter(pin, number, self.hot_limit(pin, number, tail),
                          BUS_TAIL_NUMBER(tail) == number):
                return True

    cdef bint locate_cold(self, uint64_t hot_base) except -1:
        cdef Pin pin
        cdef const bus_segment *segment
        mapping = self.open_cold(self.offset)
        if mapping is None:
            return False
        pin = Pin.__new__(Pin)
        pin.mapping = mapping
        error = bus_segment_header_error(<const bus_segment *>pin.mapping.base, pin.mapping.bytes)
        if error != NULL:
            raise _errors.CorruptSegmentError(error.decode())
        segment = <const bus_segment *>pin.mapping.base
        if segment.base_offset >= hot_base:
            return False
        self.from_cold = True
        try:
            return self.enter(pin, segment.number, pin.mapping.bytes, False)
        finally:
            self.from_cold = False

    cdef bint enter(self, Pin pin, uint64_t number, uint64_t limit, bint active) except -1:
        """Turns to the record of `offset`. False: the offset moved across the gap in front of the
        segment, which may hold no record yet."""
        cdef const bus_segment *segment = <const bus_segment *>pin.mapping.base
        cdef uint64_t position
        if segment.base_offset > self.offset:
            if segment.previous_end > self.offset:
                raise _errors.CorruptRecordError(
                    f"offsets {self.offset} to {segment.previous_end - 1} are missing: their "
                    "segment file is gone; run 'bus check', or seek past them",
                    segment=str(number - 1), offset=self.offset, reason="missing segment")
            self.offset = segment.base_offset # in between, offsets were never given out
            return False
        position = bus_find_offset(pin.mapping.base, limit, self.offset)
        if position == 0:
            self.log.count_damage()
            raise _errors.CorruptRecordError(
                f"segment {number}: the frames before offset {self.offset} are damaged; run "
                "'bus check'", segment=str(number), offset=self.offset, reason="unreadable frames")
        self.place(pin, number, position, limit, active)
        return True

    cdef int fell_behind(self, uint64_t start) except -1:
        if not self.log.flags & BUS_FLAG_DROP:
            raise _errors.OffsetOutOfRangeError(
                f"offset {self.offset} is below the log start {start}: it was deleted")
        self.gaps += start - self.offset
        self.offset = start
        return 0

    cdef bint refill(self) except -1:
        """Finds out how far may be read now. False: everything has been read."""
        cdef uint64_t tail
        if self.reader is None:
            raise _errors.ClosedError("the consumer is closed")
        if self.is_filled(): # what is there is not durable yet: no reason to look further
            return True
        if not self.placed:
            return self.locate()
        tail = bus_load_acquire(&self.log.control.tail) # pairs with publish in log.c
        if self.pin is None:
            if tail == BUS_TAIL(self.number, self.position):
                return False
            self.pin = self.pin_hot(self.number)
            if self.pin is None:
                self.placed = False
                return self.locate()
        elif not self.active:
            raise self.damage(b"the segment ends without an end frame")
        self.active = BUS_TAIL_NUMBER(tail) == self.number
        self.limit = self.hot_limit(self.pin, self.number, tail)
        return self.position < self.limit

    cdef object damage(self, const char *reason):
        self.log.count_damage()
        text = reason.decode()
        return _errors.CorruptRecordError(
            f"{self.source.topic}-{self.source.partition}: offset {self.offset} in segment "
            f"{self.number} at position {self.position}: {text}; run 'bus check', or seek past it",
            segment=str(self.number), position=self.position, offset=self.offset, reason=text)

    # ---- reading

    cdef ConsumerRecord next_record(self):
        """The next record. The cursor moves on.

        None at the end of what has been written (or is durable), and, with `placed` false, between
        two segments.
        """
        cdef const bus_frame *frame
        cdef const uint8_t *base
        cdef bus_frame_state state
        cdef ConsumerRecord record
        cdef int kind
        while True:
            if not self.is_filled() and not self.refill():
                return None
            base = self.pin.mapping.base
            state = bus_frame_check(base, self.position, self.limit, self.offset,
                                    (<const bus_segment *>base).seed, self.check_crcs)
            if state != BUS_FRAME_GOOD:
                raise self.damage(bus_frame_state_text(state))
            frame = <const bus_frame *>(base + self.position)
            kind = frame.attributes & BUS_TYPE_MASK
            if kind == BUS_TYPE_END: # the next call finds the next segment
                self.placed = False
                self.pin = None
                return None
            if kind == BUS_TYPE_PAD:
                self.position += frame.size
                continue
            if self.durable_only and self.offset >= self.log.durable_end():
                return None
            record = ConsumerRecord.__new__(ConsumerRecord)
            record.pin = self.pin
            record.frame = frame
            record.source = self.source
            record.position = self.position
            record.offset = self.offset
            self.position += frame.size
            self.offset += 1
            return record

    cdef inline bint is_filled(self) noexcept:
        return self.pin is not None and self.position < self.limit

    def take(self, Py_ssize_t max_records):
        """Up to that many records, without waiting."""
        cdef ConsumerRecord record
        cdef list records = []
        while max_records > 0:
            record = self.next_record()
            if record is None:
                break
            records.append(record)
            max_records -= 1
        return records

    cdef bint has_more(self):
        if not self.placed:
            return True
        if self.durable_only:
            return self.log.durable_end() > self.offset
        return bus_load_acquire(&self.log.control.tail) != BUS_TAIL(self.number, self.position)

    def has_news(self):
        """True if there may be something to read."""
        return self.has_more()

    cdef bus_sleepers *sleepers(self):
        if self.durable_only and self.log.replicated:
            return &self.log.control.durable
        return &self.log.control.data

    # ---- searching by time

    def find_time(self, int64_t timestamp_ns):
        """(offset, timestamp in ns) of the first hot record at or after that time, or None."""
        cdef uint64_t tail, number, base, end, offset = 0
        cdef int64_t found = 0
        cdef Pin pin
        tail = self.log.log_end(&end)
        while offset < end:
            number = self.hot_candidate(offset, tail, &base)
            pin = self.pin_hot(number)
            if pin is None: # the segment left the ring just now: look again
                tail = self.log.log_end(&end)
                continue
            if bus_find_time(pin.mapping.base, self.hot_limit(pin, number, tail), timestamp_ns,
                             &offset, &found):
                return offset, found
            if number == BUS_TAIL_NUMBER(tail):
                return None
            base = (<const bus_segment *>pin.mapping.base).end_offset
            if base < offset: # a sealed segment ends where it begins, or behind
                raise _errors.CorruptSegmentError(
                    f"hot segment {number} ends at offset {base}, below {offset}; run 'bus check'")
            offset = base
        return None


def find_time(data, int64_t timestamp_ns):
    """(offset, timestamp in ns) of the first record at or after that time in a segment, or None."""
    cdef Mapping mapping = data
    cdef uint64_t offset
    cdef int64_t found
    if bus_find_time(mapping.base, mapping.bytes, timestamp_ns, &offset, &found):
        return offset, found
    return None
