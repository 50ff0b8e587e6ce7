# Finding a record of a partition in the hot ring or a durable segment, or why it is not there.
from bus.structs import TopicPartition


#: Looks for a segment that is just leaving the ring, each time at another one.
cdef int LOOKS_MAX = 100_000


cdef class Place:
    """Where the next record to read of one partition stands, in either tier.

    A subclass says where durable segments are: see `open_cold` and `open_copy`. Where a frame is
    damaged in one tier, the same frame of the other is read: the bytes of both stand at the same
    positions.
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
    cdef uint64_t seed            # of the frames of the pinned segment
    cdef Pin other                # its copy in the other tier, once it was needed
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
        self.source.in_place = isinstance(value_deserializer, InPlace)
        self.source.value_deserializer = value_deserializer
        self.offset = offset
        self.check_crcs = check_crcs
        self.durable_only = durable_only
        return 0

    def open_cold(self, offset):
        """The durable segment with this offset or the next one after it, or None: a tuple (Mapping,
        number, base offset, end of the segment before)."""
        return None

    def open_copy(self, number):
        """Mapping of the durable copy of a hot segment, whole or not, or None."""
        return None

    def file_of(self, number, hot):
        """Path of a segment's file in one of the tiers, for messages."""
        return ""

    def offset_behind(self, offset):
        """Base offset of the first durable segment that begins behind the offset, or None."""
        return None

    def close(self):
        """Lets go of the partition; records that are still held stay readable."""
        self.pin = self.other = None
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
        if number != self.number:
            self.other = None
        self.pin = pin
        self.number = number
        self.seed = self.log.seed_of(number)
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
        pin.hot = True
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

    cdef int look_again(self, int looks) except -1:
        """Counts looks at the ring: a segment leaves it now and then, not every time."""
        if looks >= LOOKS_MAX:
            raise _errors.CorruptSegmentError(
                f"{self.log.path} contradicts itself: no segment of the ring has offset"
                f" {self.offset}; stop the bus and start it again")
        return looks + 1

    cdef bint locate(self) except -1:
        """Pins the segment of `offset`. False: nothing is there yet."""
        cdef uint64_t end, tail, number, base, before, start = self.log.start()
        cdef int looks = 0
        cdef Pin pin
        if self.offset < start:
            self.fell_behind(start)
        while True:
            tail = self.log.log_end(&end)
            looks = self.look_again(looks)
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
            if self.enter_hot(pin, number, tail):
                return True

    cdef bint locate_cold(self, uint64_t hot_base) except -1:
        cdef Pin pin
        cdef const bus_segment *segment
        found = self.open_cold(self.offset)
        if found is None:
            return False
        pin = Pin.__new__(Pin)
        pin.mapping = found[0]
        if found[2] >= hot_base:
            return False
        self.from_cold = True
        try:
            return self.enter(pin, found[1], found[2], found[3], pin.mapping.bytes, False)
        finally:
            self.from_cold = False

    cdef bint enter_hot(self, Pin pin, uint64_t number, uint64_t tail) except -1:
        """A hot segment whose header is damaged is what its durable copy, or else the ring says."""
        cdef const bus_segment *segment = <const bus_segment *>pin.mapping.base
        cdef Mapping copy
        cdef uint64_t base_offset = self.log.control.ring[pin.slot].base_offset
        cdef uint64_t previous_end = base_offset, limit = self.hot_limit(pin, number, tail)
        if not self.log.is_segment(pin.mapping, number):
            copy = self.open_copy(number)
            segment = NULL if copy is None else <const bus_segment *>copy.base
        if segment != NULL:
            base_offset, previous_end = segment.base_offset, segment.previous_end
        return self.enter(pin, number, base_offset, previous_end, limit,
                          BUS_TAIL_NUMBER(tail) == number)

    cdef bint enter(self, Pin pin, uint64_t number, uint64_t base_offset, uint64_t previous_end,
                    uint64_t limit, bint active) except -1:
        """Turns to the record of `offset`. False: the offset moved across the gap in front of the
        segment, which may hold no record yet."""
        cdef uint64_t position
        if base_offset > self.offset:
            if previous_end > self.offset:
                raise self.error(
                    f"offsets {self.offset} to {previous_end - 1} are missing: their segment file"
                    " is gone", number - 1, False, 0, previous_end, "missing segment")
            self.offset = base_offset # in between, offsets were never given out
            return False
        self.place(pin, number, 0, limit, active)
        position = bus_find_offset(pin.mapping.base, limit, base_offset, self.seed, self.offset)
        if position == 0 and self.other_copy():
            position = bus_find_offset(self.other.mapping.base, self.other_limit(), base_offset,
                                       self.seed, self.offset)
        if position == 0:
            self.placed = False
            raise self.damage(b"the frames before it cannot be read either")
        self.position = position
        return True

    cdef int fell_behind(self, uint64_t start) except -1:
        if not self.log.flags & BUS_FLAG_DROP:
            raise _errors.OffsetOutOfRangeError(
                f"offset {self.offset} is below the log start {start}: it was deleted")
        self.gaps += start - self.offset
        self.offset = start
        return 0

    # ---- damage

    cdef bint other_copy(self) except -1:
        """Finds the same segment in the other tier; False if it is not there."""
        cdef Pin other
        if self.other is not None:
            return True
        if self.pin is None:
            return False
        if not self.pin.hot:
            other = self.pin_hot(self.number)
        else:
            mapping = self.open_copy(self.number)
            other = Pin.__new__(Pin)
            other.mapping = mapping
            if mapping is None:
                return False
        self.other = other
        return other is not None

    cdef uint64_t other_limit(self) noexcept:
        """No byte above it is published."""
        if not self.other.hot:
            return self.other.mapping.bytes
        return self.hot_limit(self.other, self.number, bus_load_acquire(&self.log.control.tail))

    cdef Pin sound(self, bus_frame_state state, bus_frame *frame):
        """The copy in which the frame at this place is good. Raises CorruptRecordError."""
        if self.other_copy() and bus_frame_read(
                self.other.mapping.base, self.position, self.other_limit(), self.offset, self.seed,
                True, frame) == BUS_FRAME_GOOD:
            if self.log.writable_control():
                self.log.control.repaired_reads += 1
            return self.other
        self.other = None # it may be better the next time: the replica goes on
        raise self.damage(bus_frame_state_text(state))

    cdef bint is_end(self):
        """Whether the segment ends here, although no end frame says so."""
        cdef int slot = bus_slot_of(self.log.control, self.number)
        cdef const bus_segment *segment = <const bus_segment *>self.pin.mapping.base
        if slot >= 0 and BUS_TAIL_NUMBER(bus_load_acquire(&self.log.control.tail)) != self.number:
            return bus_load_acquire(&self.log.control.ring[slot].end_offset) == self.offset
        # A file that was never sealed says 0, which is no end: nothing has ever come before it.
        return not self.pin.hot and segment.end_offset == self.offset > 0

    cdef int leave_segment(self) except -1:
        """The next call finds the next segment."""
        self.placed = False
        self.pin = self.other = None
        return 0

    cdef object good_behind(self):
        """The offset from which on the log can be read again, or None."""
        cdef uint64_t found = UINT64_MAX, offset = 0
        if self.pin is not None and bus_find_good(
                self.pin.mapping.base, max(self.position, <uint64_t>BUS_DATA_START), self.limit,
                self.offset + 1, UINT64_MAX, self.seed, &offset):
            found = offset
        if self.other_copy() and bus_find_good(
                self.other.mapping.base, max(self.position, <uint64_t>BUS_DATA_START),
                self.other_limit(), self.offset + 1, UINT64_MAX, self.seed, &offset):
            found = min(found, offset)
        if found != UINT64_MAX:
            return found
        behind = [self.log.control.ring[slot].base_offset for slot in range(BUS_RING_SLOTS)
                  if self.log.control.ring_numbers[slot] > self.number]
        durable = self.offset_behind(self.offset)
        behind = [base for base in [*behind, durable] if base is not None and base > self.offset]
        return min(behind, default=self.log.end())

    cdef object damage(self, const char *reason):
        """The error that says which records cannot be read, where they stand, and what is next."""
        cdef bint hot = self.pin is not None and self.pin.hot
        text = reason.decode()
        trouble = None if self.pin is None else self.pin.mapping.trouble()
        if trouble is not None:
            text = f"{text}: {trouble}"
        self.log.count_damage()
        following = self.good_behind()
        self.other = None
        return self.error(f"offset {self.offset} in segment {self.number} at position"
                          f" {self.position}: {text}", self.number, hot, self.position, following,
                          text)

    cdef object error(self, str what, uint64_t number, bint hot, uint64_t position, following,
                      str reason):
        file = self.file_of(number, hot)
        return _errors.CorruptRecordError(
            f"{self.source.topic}-{self.source.partition}: {what} ({file or 'no file'}); the next"
            f" record that can be read is {following}: seek to it, and run 'bus check'",
            segment=str(number), position=position, offset=self.offset, reason=reason,
            topic=self.source.topic, partition=self.source.partition, file=file,
            next_offset=following)

    cdef object lost(self, uint64_t end):
        return _errors.RecordsLostError(
            f"{self.source.topic}-{self.source.partition}: records {self.offset} to {end - 1} were"
            f" damaged in the hot log before they were durable, and are lost; seek to {end}",
            segment=str(self.number), position=self.position, offset=self.offset,
            reason="lost before they were durable", topic=self.source.topic,
            partition=self.source.partition, file=self.file_of(self.number, False),
            next_offset=end)
