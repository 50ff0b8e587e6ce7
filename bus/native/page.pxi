# A partition's control page: its lock, and what anyone may look at.
from bus.native.tuples import Reader, RingSlot


cdef class ControlPage:
    """The control page of one partition, mapped by this process."""
    cdef bus_partition *control
    cdef Mapping control_mapping
    cdef readonly uint64_t topic_id
    cdef readonly uint32_t partition
    cdef readonly str path # of the control page, for messages
    cdef readonly uint64_t inode
    cdef readonly Bells bells
    cdef readonly bint replicated # as it was at the attach; it never changes
    cdef bint met_death         # took over the lock of a dead process, which is to be told
    #: what messages call this partition
    cdef public str name
    #: thread that held the lock when the broker last waited for it in vain; 0: nobody
    cdef readonly uint32_t stuck_tid
    #: where the lost records end that this producer was told of
    cdef public uint64_t losses_seen

    # ---- the lock

    cdef int lock(self, int64_t *deadline, int64_t waited_ns) except -1:
        """Takes the lock. A deadline of 0 becomes waited_ns from now, if there is to wait."""
        cdef bus_lock_result result
        if self.control.magic != BUS_MAGIC_PARTITION: # a page that is gone has no lock
            self.check()
        result = bus_lock_nowait(&self.control.lock)
        if result != BUS_LOCK_TAKEN:
            if deadline[0] == 0: # one for the whole call, whatever it waits for
                deadline[0] = bus_now_ns() + waited_ns
            self.lock_slowly(result, deadline[0], waited_ns)
        return self.locked()

    cdef int locked(self) except -1:
        """After the lock was taken: that of a page that is gone locks nothing."""
        if self.control_mapping.mark[0]:
            bus_unlock(&self.control.lock)
            self.check()
        return 0

    cdef int check(self) except -1:
        """After a look at the control page: the zeros of a page that is gone mean nothing.

        Bytes that were overwritten are bus/guard.py's to find."""
        if self.control_mapping.mark[0]:
            raise _errors.CorruptSegmentError(
                f"{self.path} was truncated while it was mapped; stop the bus and start it again")
        return 0

    cdef int lock_slowly(self, bus_lock_result result, int64_t deadline,
                         int64_t waited_ns) except -1:
        if wait_for_lock(&self.control.lock, result, deadline, waited_ns, self.name,
                         self.bells.control) == BUS_LOCK_OWNER_DIED:
            # Nothing to repair: only the tail publishes, and an unpublished record never existed.
            self.control.deaths_repaired += 1
            bus_lock_repaired(&self.control.lock)
            self.met_death = True
        return 0

    cdef int note_repair(self) except -1:
        from bus.incidents import Incident, Incidents # not at the top: it imports this module
        self.met_death = False
        if self.bells is not None:
            Incidents(self.bells.control).note(
                Incident.LOCK_REPAIRED,
                "partition %d of topic %d: a process died under its lock; the next one goes on",
                self.partition, self.topic_id)
        return 0

    cdef int unlock(self) except -1:
        bus_unlock(&self.control.lock)
        if self.met_death: # told without the lock: a log handler may take its time, or raise
            self.note_repair()
        return 0

    # ---- what anyone may look at

    @property
    def flags(self):
        return bus_load32_acquire(&self.control.flags)

    @property
    def tail(self):
        """(segment number, position in bytes) behind the last record."""
        cdef uint64_t tail = bus_load_acquire(&self.control.tail)
        return BUS_TAIL_NUMBER(tail), BUS_TAIL_POSITION(tail)

    cdef uint64_t log_end(self, uint64_t *offset) except 0:
        """The tail, and the log end offset that belongs to it."""
        cdef uint64_t tail = bus_log_end(self.control, offset)
        self.check()
        if tail == 0:
            raise _errors.CorruptSegmentError(
                f"{self.path} contradicts itself: no end belongs to the tail; stop the bus and"
                " start it again")
        return tail

    cdef bint writable_control(self) noexcept:
        return self.control_mapping.writable

    cdef uint64_t seed_of(self, uint64_t number) noexcept:
        """What is mixed into the checksums of that segment's frames, whatever its header says."""
        return bus_segment_seed(self.control.bus_id, self.topic_id, self.partition, number)

    cdef bint is_segment(self, Mapping mapping, uint64_t number) noexcept:
        """Whether the header can be believed and is that of segment `number` of this partition."""
        cdef const bus_segment *segment = <const bus_segment *>mapping.base
        return (mapping.bytes >= sizeof(bus_segment)
                and bus_segment_header_error(segment, mapping.bytes) == NULL
                and segment.number == number and segment.seed == self.seed_of(number))

    cdef uint64_t end(self) except? 0:
        cdef uint64_t offset
        self.log_end(&offset)
        return offset

    cdef uint64_t start(self) except? 0:
        cdef uint64_t start = bus_load_acquire(&self.control.log_start_offset), hot
        if self.replicated:
            return start
        hot = bus_hot_start(self.control)
        return hot if hot > start else start

    cdef uint64_t durable_end(self) except? 0:
        """Below this offset records survive what the topic's durability promises."""
        if self.replicated:
            return bus_durable_end(self.control)
        return self.end()

    @property
    def log_end_offset(self):
        return self.end()

    @property
    def log_start_offset(self):
        return self.start()

    @property
    def hot_start_offset(self):
        return bus_hot_start(self.control)

    @property
    def high_watermark(self):
        return self.durable_end()

    @property
    def offset_limit(self):
        return bus_load_acquire(&self.control.offset_limit)

    @property
    def max_message_bytes(self):
        return bus_load_acquire(&self.control.max_message_bytes)

    @property
    def replica_pid(self):
        return bus_load32_acquire(&self.control.replica_pid)

    @property
    def replica_state(self):
        return bus_load32_acquire(&self.control.replica_state)

    @property
    def replica_fsync_ns(self):
        return bus_load_acquire(&self.control.replica_fsync_ns)

    @property
    def counters(self):
        return {
            "deaths_repaired": self.control.deaths_repaired,
            "rolls": self.control.rolls,
            "recycled": self.control.recycled,
            "dropped_records": self.control.dropped_records,
            "corrupt_frames": self.control.corrupt_frames,
            "segments_given_up": self.control.segments_given_up,
            "repaired_reads": self.control.repaired_reads,
            "lost_ranges": len(self.lost()),
        }

    def peek(self, uint64_t at, uint64_t size):
        """Bytes of the control page, as they are now. Raises IndexError outside of it."""
        if at + size > sizeof(bus_partition):
            raise IndexError(f"no {size} bytes at {at} of a control page")
        return PyBytes_FromStringAndSize(<char *>self.control + at, size)
    def lost(self):
        """The ranges (first, end) of records that were lost before they were durable."""
        cdef uint64_t first = 0, end = 0
        return sorted((first, end) for i in range(BUS_LOST_RANGES)
                      if bus_lost_range(self.control, i, &first, &end))

    def lost_at(self, uint64_t offset):
        """The range of lost records that this one belongs to, or None."""
        cdef bus_lost found
        return (found.first, found.end) if bus_is_lost(self.control, offset, &found) else None

    def ring(self):
        """The hot segment files, in slot order."""
        cdef int slot
        found = []
        self.check()
        for slot in range(BUS_RING_SLOTS):
            if bus_load_acquire(&self.control.ring[slot].serial):
                found.append(RingSlot(
                    slot, self.control.ring[slot].serial, self.control.ring[slot].bytes,
                    bus_load_acquire(&self.control.ring_numbers[slot]),
                    self.control.ring[slot].base_offset, self.control.ring[slot].end_offset))
        return found

    def readers(self):
        """The attached readers; `client` is a client slot."""
        cdef uint64_t i, high = bus_readers_high(self.control)
        cdef bus_reader *reader
        self.check()
        found = []
        for i in range(high):
            reader = &self.control.readers[i]
            if bus_reader_attached(reader):
                found.append(Reader(i, reader.owner - 1, reader.generation,
                                    bus_load_acquire(&reader.position),
                                    bus_load_acquire(&reader.pins), bool(reader.flags & 1)))
        return found
