# A guest's look at a partition of another user's bus: through read-only mappings, by copying.
#
# A guest cannot pin, so the file under its eyes may be recycled at any instant. It copies whole
# frames into memory of its own, verifies the copies, and then looks again at the number of the ring
# slot. The roller clears the number, fences, and only then writes; so if any byte was of a later
# segment, the number is seen to have changed, and the copy is thrown away.

#: Copied at once, in bytes: enough to pay for the looks at the ring, little enough for a cache.
cdef uint64_t CHUNK_BYTES = 256 * 1024


cdef class GuestLog(HotLog):
    """The hot log of one partition, mapped read-only from descriptors that a gateway handed out.

    control_fd stays the caller's. `open_file(serial)` returns a descriptor of a hot segment file,
    or raises FileNotFoundError if it is not in the ring any more.
    """
    cdef object open_file

    def __init__(self, int control_fd, uint64_t topic_id, uint32_t partition, open_file):
        self.attach_control(control_fd, f"{topic_id}-{partition}.ctl", topic_id, partition, False)
        self.hot_fd = -1
        self.open_file = open_file

    cdef void count_damage(self) noexcept:
        pass # the counters are not ours to write

    cdef Mapping map_slot(self, int slot):
        cdef uint64_t serial = bus_load_acquire(&self.control.ring[slot].serial)
        cdef Mapping mapping
        if serial == 0:
            return None
        if self.log.map_serials[slot] == serial:
            return <Mapping>self.mappings[slot]
        try:
            fd = self.open_file(serial)
        except FileNotFoundError:
            if bus_load_acquire(&self.control.ring[slot].serial) != serial:
                return None # it left the ring just now: the caller looks again
            return self.missing(slot)
        try:
            mapping = Mapping(fd, _os.fstat(fd).st_size)
        finally:
            _os.close(fd)
        if mapping.bytes < BUS_DATA_START + sizeof(bus_frame):
            raise _errors.CorruptSegmentError(f"hot segment file {serial} is too short")
        mapping.prefault()
        self.mappings[slot] = mapping
        self.log.map_serials[slot] = serial
        return mapping

    cdef Mapping missing(self, int slot):
        """Zeros for a file that somebody deleted: it is told as damage, and not waited for."""
        cdef uint64_t size = self.control.ring[slot].bytes
        if not BUS_DATA_START + sizeof(bus_frame) <= size <= SEGMENT_BYTES_MAX:
            raise _errors.CorruptSegmentError(
                f"{self.path} gives a hot segment an impossible size of {size} bytes")
        return stand_in(size, False, "the file is missing")


cdef class GuestCursor(Cursor):
    """The next record to read of one partition of another user's bus."""
    cdef Mapping segment      # where frames are copied from
    cdef int slot             # its ring slot, -1: a durable segment
    cdef uint8_t *origin      # the chunk, moved so that positions count as in the segment
    cdef bint sealed          # the chunk ends before an end frame
    cdef bint closed
    cdef uint64_t published

    def __init__(self, GuestLog log not None, str topic not None, uint64_t offset, *,
                 bint check_crcs=True, bint durable_only=False,
                 key_deserializer=None, value_deserializer=None):
        self.begin(log, topic, offset, check_crcs, durable_only, key_deserializer,
                   value_deserializer)
        self.published = offset
        self.slot = -1

    def close(self):
        self.pin = None
        self.segment = None
        self.closed = True

    cdef int rewind(self) except -1:
        if not self.closed and self.published != self.offset:
            self.seek(self.published)
        return 0

    def publish(self):
        """Remembers where a rewind goes; no producer ever waits for a guest."""
        self.published = self.offset

    cdef Pin pin_hot(self, uint64_t number):
        """The mapping of a hot segment: in a Pin that holds nothing in the ring."""
        cdef int slot = bus_slot_of(self.log.control, number) if number else -1
        cdef Pin pin
        if slot < 0:
            return None
        pin = Pin.__new__(Pin)
        pin.hot = True
        pin.slot = slot
        pin.mapping = self.log.map_slot(slot)
        return pin if pin.mapping is not None and self.stands(slot, number) else None

    cdef bint stands(self, int slot, uint64_t number) noexcept:
        """True if the segment still is in that slot: whatever was read before is of it."""
        bus_fence_acquire() # pairs with the fence in retire of ring.c
        return slot < 0 or bus_load_acquire(&self.log.control.ring_numbers[slot]) == number

    cdef bint enter(self, Pin pin, uint64_t number, uint64_t base_offset, uint64_t previous_end,
                    uint64_t limit, bint active) except -1:
        cdef int slot = -1 if self.from_cold else pin.slot
        cdef uint64_t before = self.offset
        cdef bint entered
        try:
            entered = Place.enter(self, pin, number, base_offset, previous_end, limit, active)
        except _errors.CorruptRecordError:
            if self.stands(slot, number):
                raise
            entered = False
        if not self.stands(slot, number):
            self.offset = before # what was read belongs to a later segment: look again
            self.placed = False
            return False
        if entered:
            self.segment = pin.mapping
            self.slot = slot
            self.pin = None
            self.sealed = False
        return entered

    cdef bint refill(self) except -1:
        if self.closed:
            raise _errors.ClosedError("the consumer is closed")
        if self.is_filled():
            return True
        if self.sealed:
            self.placed = False
        while True:
            if not self.find_segment():
                return False
            if self.copy():
                return True
            if self.sealed or not self.placed:
                self.placed = False # the next segment, or what was copied had been recycled
                continue
            return False

    cdef bint find_segment(self) except -1:
        """False: everything has been read."""
        cdef Pin pin
        if self.placed and self.segment is not None:
            return True
        if self.placed: # at the end, when it was looked at last
            if bus_load_acquire(&self.log.control.tail) == BUS_TAIL(self.number, self.position):
                return False
            pin = self.pin_hot(self.number)
            if pin is not None:
                self.segment = pin.mapping
                self.slot = pin.slot
                return True
            self.placed = False
        self.segment = None
        self.sealed = False
        return self.locate()

    cdef bint copy(self) except -1:
        """Copies what is there behind `position`. False: nothing, or `placed` is lost."""
        cdef uint64_t tail = bus_load_acquire(&self.log.control.tail), limit, need, room
        cdef uint64_t lead = self.position % BUS_VALUE_ALIGN # what is aligned there is so here
        cdef Mapping chunk
        cdef Pin pin
        cdef bus_scan scan
        cdef bint there
        self.pin = None
        limit = self.segment.bytes
        if self.slot >= 0 and BUS_TAIL_NUMBER(tail) == self.number:
            limit = min(BUS_TAIL_POSITION(tail), limit)
        if self.position >= limit:
            self.segment = self.segment if self.stands(self.slot, self.number) else None
            self.placed = self.segment is not None
            return False
        room = min(CHUNK_BYTES, limit - self.position)
        while True:
            chunk = Mapping.anonymous(lead + room)
            with nogil:
                need = bus_guest_copy(self.segment.base, self.position, limit, self.offset,
                                      chunk.base + lead, room, self.check_crcs, &scan)
            there = self.stands(self.slot, self.number)
            if not there:
                self.placed = False
                self.segment = None
                return False
            if need <= room or scan.end_position != self.position:
                break
            room = need
        if scan.end_position == self.position and not scan.sealed:
            if scan.error != BUS_FRAME_GOOD:
                raise self.damage_at(limit, bus_frame_state_text(scan.error))
        self.sealed = scan.sealed
        if scan.end_position == self.position:
            return False
        pin = Pin.__new__(Pin)
        pin.mapping = chunk
        self.pin = pin
        self.origin = chunk.base + lead - self.position
        self.limit = scan.end_position
        return True

    cdef object damage_at(self, uint64_t limit, const char *reason):
        """The error about what stands at `position` of the segment, not of the last chunk."""
        cdef Pin pin = Pin.__new__(Pin)
        pin.mapping = self.segment
        pin.hot = self.slot >= 0
        pin.slot = self.slot
        self.limit = limit
        self.pin = pin
        error = self.damage(reason)
        self.pin = None
        return error

    cdef ConsumerRecord next_record(self):
        cdef const bus_frame *frame # in the chunk, which is ours: nobody changes it
        cdef ConsumerRecord record
        while True:
            if not self.is_filled() and not self.refill():
                return None
            frame = <const bus_frame *>(self.origin + self.position)
            if frame.attributes & BUS_TYPE_MASK == BUS_TYPE_PAD:
                if frame.producer > self.offset:
                    raise self.lost(frame.producer)
                self.position += frame.size
                continue
            if self.durable_only and self.offset >= self.log.durable_end():
                return None
            record = ConsumerRecord.__new__(ConsumerRecord)
            record.pin = self.pin
            record.at = <const uint8_t *>frame
            record.header = frame[0]
            record.source = self.source
            record.position = self.position
            record.offset = self.offset
            self.position += frame.size
            self.offset += 1
            return record

    cdef bus_sleepers *sleepers(self):
        return NULL # a guest sets no bits: its gateway watches for it

    def find_time(self, int64_t timestamp_ns):
        cdef uint64_t tail, number, base, end, offset = 0, after
        cdef int64_t found = 0
        cdef uint64_t hit
        cdef int looks = 0
        cdef Pin pin
        tail = self.log.log_end(&end)
        while offset < end:
            looks = self.look_again(looks)
            number = self.hot_candidate(offset, tail, &base)
            pin = self.pin_hot(number)
            if pin is None:
                tail = self.log.log_end(&end)
                continue
            hit = bus_find_time(pin.mapping.base, self.hot_limit(pin, number, tail), timestamp_ns,
                                &offset, &found)
            after = (<const bus_segment *>pin.mapping.base).end_offset
            if not self.stands(pin.slot, number):
                offset = 0
                continue
            if hit:
                return offset, found
            if number == BUS_TAIL_NUMBER(tail):
                return None
            offset = after
        return None
