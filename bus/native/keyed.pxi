# A member of a keyed group: looks at the keys of records, so that the table can put them in order.

#: A member of a keyed group looks at the keys of so many new records at a time …
cdef enum:
    AHEAD = 128
#: … and of so many before it lets its program have a say.
cdef uint64_t LOOK_MAX = 65536


cdef class Scout(Cursor):
    """Looks at keys, ahead of what is claimed or behind it; through the place of the member."""
    cdef ShareCursor member
    cdef uint64_t following # where to look next
    cdef bint unreadable    # something is there, and nobody can read it
    cdef uint64_t seen_from # the lanes of so many records from here on are known
    cdef uint64_t seen
    cdef uint16_t lanes[AHEAD]

    def __init__(self, ShareCursor member not None):
        self.begin(member.log, member.source.topic, 0, False, False, None, None)
        self.member = member
        self.reader = member.reader

    def open_cold(self, offset):
        return self.member.open_cold(offset)

    def open_copy(self, number):
        return self.member.open_copy(number)

    def file_of(self, number, hot):
        return self.member.file_of(number, hot)

    def offset_behind(self, offset):
        return self.member.offset_behind(offset)

    cdef ConsumerRecord look(self, uint64_t offset):
        """The first record from `offset` on; None: there is none up to `following`."""
        cdef ConsumerRecord record = None
        self.unreadable = False
        if self.offset != offset:
            self.offset = offset
            self.leave_segment()
        try:
            while record is None and (self.is_filled() or Cursor.refill(self)):
                record = Cursor.next_record(self)
            self.following = self.offset
        except _errors.OffsetOutOfRangeError:
            self.following = max(offset, self.log.start()) # deleted; or it is behind the log end
        except _errors.CorruptRecordError as error:
            self.unreadable = True
            self.following = max(offset + 1, <uint64_t>error.next_offset)
            record = None
        return record

    cdef Py_ssize_t claim(self, Py_ssize_t most) except -1:
        """Claims, and takes up new records until there is something to claim among them."""
        cdef bus_acks *acks = self.member.acks.acks
        cdef uint64_t end = self.member.readable(), before, begin = bus_load_acquire(&acks.next)
        cdef Py_ssize_t found
        while True:
            before = bus_load_acquire(&acks.next)
            if <Py_ssize_t>bus_load32_relaxed(&acks.ready) < most and before < end:
                self.look_ahead(before, end)
            found = self.member.acks.claim_keyed(self.lanes, self.seen_from, self.seen, most,
                                                 self.member.running, self.member.claimed)
            if found:
                return found
            if bus_load32_relaxed(&acks.lanes_ready) and self.look_behind():
                continue
            if bus_load_acquire(&acks.next) <= before or before - begin > LOOK_MAX:
                return 0

    cdef int look_ahead(self, uint64_t offset, uint64_t end) except -1:
        """The lanes of records from `offset` on."""
        cdef ConsumerRecord record
        cdef uint64_t at
        if self.seen_from <= offset < self.seen_from + self.seen:
            return 0
        self.seen_from = offset
        self.seen = 0
        end = min(end, offset + AHEAD)
        while offset < end:
            record = self.look(offset)
            at = self.following if record is None else record.offset
            if record is None and at == offset: # not there yet
                break
            if self.unreadable: # who claims it is told
                offset = self.know(offset, offset + 1, 0)
            offset = self.know(offset, min(at, end), BUS_LANE_GAP)
            if record is not None and offset < end:
                offset = self.know(offset, offset + 1, lane_of(record))
        return 0

    cdef uint64_t know(self, uint64_t offset, uint64_t to, uint16_t lane) noexcept:
        while offset < to:
            self.lanes[self.seen] = lane
            self.seen += 1
            offset += 1
        return offset

    cdef bint look_behind(self) except -1:
        """Finds the next record of a lane that waits in the log alone. True if it is ready now."""
        cdef ConsumerRecord record = None
        cdef uint64_t start = 0, offset, to = 0
        cdef uint16_t lane
        lane = self.member.acks.parked(<uint16_t>(self.member.acks.client * 61 % BUS_ACK_LANES),
                                       &start, &to)
        if lane == 0:
            return False
        offset = start
        to = min(to, start + LOOK_MAX)
        while offset < to:
            record = self.look(offset)
            if self.unreadable: # it may be of this lane: told rather than left out
                break
            if record is not None and record.offset < to and lane_of(record) == lane:
                offset = record.offset
                break
            if self.following == offset:
                return False
            record = None
            offset = self.following
        self.member.acks.unpark(lane, start, min(offset, to),
                                offset < to and (record is not None or self.unreadable))
        return bus_load32_relaxed(&self.member.acks.acks.ready) > 0


cdef uint16_t lane_of(ConsumerRecord record) noexcept:
    if record.header.attributes & BUS_ATTR_NULL_KEY:
        return 0
    return bus_lane_of(bus_frame_key(record.at), record.header.key_length)
