# Reading one partition in order, across both tiers, and waiting for more.


cdef class Cursor(Place):
    """The next record to read of one partition."""

    # ---- reading

    cdef bint refill(self) except -1:
        """Finds out how far may be read now. False: everything has been read."""
        cdef uint64_t tail
        if self.reader is None:
            raise _errors.ClosedError("the consumer is closed")
        if self.pin is not None and self.position < self.limit: # not durable yet: look no further
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
            if self.is_end():
                self.leave_segment()
                return self.locate()
            raise self.damage(b"the segment ends without an end frame")
        self.active = BUS_TAIL_NUMBER(tail) == self.number
        self.limit = self.hot_limit(self.pin, self.number, tail)
        return self.position < self.limit

    cdef ConsumerRecord next_record(self):
        """The next record. The cursor moves on.

        None at the end of what has been written (or is durable), and, with `placed` false, between
        two segments.
        """
        cdef const uint8_t *base
        cdef bus_frame_state state
        cdef ConsumerRecord record
        cdef Pin pin
        cdef int kind
        while True:
            if not self.is_filled() and not self.refill():
                return None
            pin = self.pin
            base = pin.mapping.base
            record = ConsumerRecord.__new__(ConsumerRecord)
            state = bus_frame_read(base, self.position, self.limit, self.offset,
                                   self.seed, self.check_crcs, &record.header)
            if state != BUS_FRAME_GOOD:
                if self.is_end() and self.offset >= self.log.start():
                    self.leave_segment()
                    return None
                pin = self.sound(state, &record.header)
                base = pin.mapping.base
            kind = record.header.attributes & BUS_TYPE_MASK
            if kind == BUS_TYPE_END:
                self.leave_segment()
                return None
            if kind == BUS_TYPE_PAD:
                if record.header.producer > self.offset:
                    raise self.lost(record.header.producer)
                self.position += record.header.size
                continue
            if self.durable_only and self.offset >= self.log.durable_end():
                return None
            record.pin = pin
            record.at = base + self.position
            record.source = self.source
            record.position = self.position
            record.offset = self.offset
            self.position += record.header.size
            self.offset += 1
            return record

    cdef bint is_filled(self) noexcept:
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
        cdef int looks = 0
        tail = self.log.log_end(&end)
        while offset < end:
            looks = self.look_again(looks)
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
            base = self.log.control.ring[pin.slot].end_offset
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
