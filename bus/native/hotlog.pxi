# One partition's control page and hot segments, as attached by this process.

#: Appends that copy more than this release the GIL meanwhile.
cdef uint64_t NOGIL_BYTES = 65536

#: Positions in a segment have 32 bits.
cdef uint64_t SEGMENT_BYTES_MAX = <uint64_t>1 << 32

#: A slot names another file when its segment leaves the ring, which takes a whole segment of
#: records: one that does so at each of that many looks was overwritten.
cdef int MAP_LOOKS_MAX = 1000

#: A control page with its moat and its canary.
cdef uint64_t CONTROL_FILE_BYTES = sizeof(bus_partition) + BUS_MOAT_BYTES + BUS_CANARY_BYTES


cdef class HotLog(ControlPage):
    """The hot log of one partition, attached by this process."""
    cdef bus_log log
    cdef list mappings
    cdef readonly int hot_fd
    cdef readonly int client_slot
    cdef bint writing
    #: log end offset after the last record that this process appended; 0: none
    cdef readonly uint64_t sent_end
    #: called as blocked(partition, status, detail, deadline_ns): sleeps a while or raises
    cdef public object blocked
    #: called as attention(partition, need_bytes): tells the broker to look after the ring
    cdef public object attention

    def __init__(self, int hot_fd, uint64_t topic_id, uint32_t partition, Bells bells,
                 int client_slot):
        name = f"{topic_id}-{partition}.ctl"
        fd = _files.open_own(name, _os.O_RDWR, dir_fd=hot_fd)
        try:
            self.attach_control(fd, name, topic_id, partition, True)
        finally:
            _os.close(fd)
        self.hot_fd = hot_fd
        self.bells = bells
        self.client_slot = client_slot

    cdef int attach_control(self, int fd, str name, uint64_t topic_id, uint32_t partition,
                            bint writable) except -1:
        """Maps the control page and checks whose it is."""
        stat = _os.fstat(fd)
        size, self.inode = stat.st_size, stat.st_ino
        if size < <int64_t>sizeof(bus_partition):
            raise _errors.CorruptSegmentError(f"{name} is too short: {size} bytes")
        self.path = _os.readlink(f"/proc/self/fd/{fd}")
        # With what lies behind it: see bus/canary.py.
        self.control_mapping = Mapping(fd, min(<uint64_t>size, CONTROL_FILE_BYTES),
                                       writable=writable)
        self.control = <bus_partition *>self.control_mapping.base
        if self.control.magic != BUS_MAGIC_PARTITION:
            raise _errors.CorruptSegmentError(f"{name} is no control page of a partition")
        if self.control.version != BUS_LAYOUT_VERSION:
            raise _errors.UnsupportedVersionError(
                f"{name} has layout version {self.control.version}, this version of bus uses "
                f"{BUS_LAYOUT_VERSION}; stop the bus and start it with one version only")
        if self.control.topic_id != topic_id or self.control.partition != partition:
            raise _errors.CorruptSegmentError(f"{name} belongs to another partition")
        self.log.control = self.control
        self.replicated = bus_load32_acquire(&self.control.flags) & BUS_FLAG_REPLICATED != 0
        self.log.active_slot = -1
        self.mappings = [None] * BUS_RING_SLOTS
        self.topic_id = topic_id
        self.partition = partition
        self.name = f"partition {partition} of topic number {topic_id}"
        return 0

    cdef void count_damage(self) noexcept:
        self.control.corrupt_frames += 1

    # ---- mappings

    cdef Mapping mapped(self, int slot, uint64_t serial):
        """What is mapped already of that file, if it will do; else None."""
        cdef Mapping mapping = <Mapping>self.mappings[slot]
        fits = self.log.map_serials[slot] == serial and mapping.writable >= self.writing
        return mapping if fits else None

    cdef Mapping map_slot(self, int slot):
        """The file that stands in this ring slot now, mapped; None if the slot is empty."""
        cdef uint64_t serial
        cdef Mapping mapping
        for _ in range(MAP_LOOKS_MAX):
            serial = bus_load_acquire(&self.control.ring[slot].serial)
            if serial == 0:
                return None
            mapping = self.mapped(slot, serial)
            if mapping is not None:
                return mapping
            mapping = self.map_file(f"{self.topic_id}-{self.partition}.{serial}.seg",
                                    self.control.ring[slot].bytes)
            # The GIL was given up meanwhile. Another thread may have mapped the file and be writing
            # to it without the GIL, or the slot may have got another file that it writes to, or
            # none.
            if bus_load_acquire(&self.control.ring[slot].serial) == serial and \
                    self.mapped(slot, serial) is None:
                return self.keep(slot, serial, mapping)
        raise self.unsteady(slot)

    cdef unsteady(self, int slot):
        """The error for a slot that never names the same file twice."""
        return _errors.CorruptSegmentError(
            f"{self.path} named another file in slot {slot} at each of {MAP_LOOKS_MAX} looks: it is"
            " being overwritten; stop the bus and start it again")

    cdef Mapping keep(self, int slot, uint64_t serial, Mapping mapping):
        """This file stands in the slot, for the core as well."""
        if mapping.fault is not None:
            self.check_alive()
        self.mappings[slot] = mapping
        self.log.maps[slot] = mapping.base
        self.log.map_marks[slot] = mapping.mark
        self.log.map_bytes[slot] = mapping.bytes
        self.log.map_serials[slot] = serial
        return mapping

    cdef int check_alive(self) except -1:
        """Raises if files are missing because the bus was stopped or moves, or the topic deleted.

        While it ends, its files are there: then it is damage, which a replica has to tell.
        """
        cdef uint32_t stopping = 0
        if self.bells is not None:
            stopping = bus_load32_acquire(&self.bells.bells.control.stopping)
        if stopping > 1 or stopping and not self.has_broker_page():
            raise _errors.BrokerNotRunningError("the bus was stopped, and its hot files are gone")
        if self.flags & BUS_FLAG_DELETED:
            raise _errors.UnknownTopicOrPartitionError(f"topic {self.topic_id} was deleted")
        return 0

    cdef bint has_broker_page(self) except -1:
        """A hot directory loses it first when it is removed (see wipe in bus/hotdir.py)."""
        try:
            _os.stat("bus.ctl", dir_fd=self.hot_fd)
        except FileNotFoundError:
            return False
        return True

    cdef Mapping map_file(self, str name, uint64_t size):
        """A hot segment file; zeros in its place, with the reason, if it is not there as it was."""
        cdef Mapping mapping
        if not BUS_DATA_START + sizeof(bus_frame) <= size <= SEGMENT_BYTES_MAX:
            raise _errors.CorruptSegmentError(
                f"{self.path} gives {name} an impossible size of {size} bytes: it was overwritten;"
                " stop the bus and start it again")
        try:
            fd = _files.open_own(name, _os.O_RDWR if self.writing else _os.O_RDONLY,
                                 dir_fd=self.hot_fd)
        except FileNotFoundError:
            return stand_in(size, self.writing, "the file is missing")
        except (IsADirectoryError, _errors.UnsafeDirectoryError):
            if not self.is_directory(name): # a plant of somebody's: not to be opened, nor passed by
                raise
            return stand_in(size, self.writing, "a directory has taken its name")
        try:
            found = _os.fstat(fd).st_size
            if found < <int64_t>size:
                return self.short(fd, found, size)
            mapping = Mapping(fd, size, writable=self.writing)
        finally:
            _os.close(fd)
        mapping.prefault()
        return mapping

    cdef bint is_directory(self, str name) except -1:
        mode = _os.stat(name, dir_fd=self.hot_fd, follow_symlinks=False).st_mode
        return _stat.S_ISDIR(mode)

    cdef Mapping short(self, fd, uint64_t found, uint64_t size):
        """What a truncated file still has can be read; the guard puts zeros behind it."""
        cdef Mapping mapping
        fault = f"the file has {found} bytes instead of {size}"
        if self.writing or found == 0:
            return stand_in(size, self.writing, fault)
        mapping = Mapping(fd, size)
        mapping.fault = fault
        return mapping

    cdef int start_writing(self) except -1:
        """From here on mappings are writable; read-only ones live as long as they are used."""
        self.writing = True
        self.release_mappings()
        return 0

    def release_mappings(self):
        """Unmaps all hot segments; they are mapped again when they are needed."""
        for slot in range(BUS_RING_SLOTS):
            self.mappings[slot] = None
            self.log.map_serials[slot] = 0

    # ---- append

    cdef int append(self, bus_record *records, uint64_t count, uint64_t size, int64_t timeout_ns,
                    bus_appended *out) except -1:
        """Appends all records in order; waits at most timeout_ns for the lock and for room.

        What was appended before an error is in out.done.
        """
        cdef bus_append_status status
        cdef int64_t deadline = 0
        cdef bint armed = False
        cdef int maps = 0
        cdef uint64_t before = out.done
        if not self.writing:
            self.start_writing()
        while True:
            self.lock(&deadline, timeout_ns)
            if size < NOGIL_BYTES:
                status = bus_log_append(&self.log, records, count, out)
            else:
                with nogil:
                    status = bus_log_append(&self.log, records, count, out)
            bus_unlock(&self.control.lock)
            if out.done != before:
                before = out.done
                maps = 0
                self.sent_end = out.last_offset + 1
                bus_wake(&self.control.data, &self.bells.bells)
                # behind bus_wake's fence, which pairs with announce_stop's: saved, or seen here
                if bus_load32_relaxed(&self.bells.bells.control.stopping) > 1:
                    raise left_behind(self.topic_id, self.partition, out.done)
            if out.attention and (status == BUS_APPENDED or not armed): # once a round
                self.attention(self, out.detail if status == BUS_WAIT_SPARE else 0)
            out.attention = 0
            if self.met_death:
                self.note_repair()
            if status == BUS_APPENDED:
                return 0
            if status == BUS_NEED_MAP:
                maps += 1
                if maps > MAP_LOOKS_MAX:
                    raise self.unsteady(<int>out.detail)
                self.map_slot(<int>out.detail)
                continue
            if deadline == 0:
                deadline = bus_now_ns() + timeout_ns
            if not armed: # set the bit, then look once more before going to sleep
                bus_sleeper_set(&self.control.space, self.client_slot)
                armed = True
                continue
            armed = False
            self.blocked(self, <int>status, out.detail, deadline)

    # ---- consumers that lag (bus/lag_gate.py)

    @property
    def lag_words(self):
        """(gate, tail, from): what holds appenders up, see `lag_gate` in layout.h."""
        return (bus_load_acquire(&self.control.lag_gate), bus_load_acquire(&self.control.lag_tail),
                bus_load_acquire(&self.control.lag_from))

    @property
    def skipped_offsets(self):
        """(start, end) of the offsets that were never given out, because the log was recovered."""
        return self.control.gap_start, self.control.gap_end

    def set_lag_gate(self, uint64_t gate, uint64_t tail, uint64_t origin):
        """What was worked out. The caller looks at the commits once more behind it."""
        bus_lag_set(self.control, gate, tail, origin)

    def close_lag_gate(self, bint limited):
        """The next append looks how far the consumers are; or, if not `limited`, never again."""
        bus_lag_close(self.control, limited)
        self.ring_space()

    def commit_moved(self, int64_t offset):
        """A group has committed `offset`, or has no commit any more (-1): wakes who is held up."""
        if bus_lag_moved(self.control, offset):
            self.ring_space()

    # ---- waiting

    def arm(self, *, bint durable=False):
        """Asks to be rung at the next change of the tail, or of the high watermark."""
        if durable and self.replicated:
            bus_sleeper_set(&self.control.durable, self.client_slot)
        else:
            bus_sleeper_set(&self.control.data, self.client_slot)

    cdef bint wait_word(self, bus_sleepers *sleepers, const uint64_t *word, uint64_t at_least,
                        int64_t deadline) except -1:
        """Sleeps until the word is at or above a value; True if it is."""
        while bus_load_acquire(word) < at_least:
            bus_sleeper_set(sleepers, self.client_slot)
            if bus_load_acquire(word) >= at_least:
                break
            if not self.bells.wait_until(self.client_slot, deadline):
                break
        if self.bells.waiting[self.client_slot] == 0: # else the bit is another thread's as well
            bus_sleeper_clear(sleepers, self.client_slot)
        return bus_load_acquire(word) >= at_least

    def wait_data(self, uint64_t number, uint64_t position, timeout_ms):
        """Waits until the log reaches beyond that place; True if it does."""
        return self.wait_word(&self.control.data, &self.control.tail,
                              BUS_TAIL(number, position) + 1, deadline_after(timeout_ms))

    def wait_durable(self, uint64_t offset, timeout_ms):
        """Waits until the record with that offset is durable; True if it is."""
        if not self.replicated:
            return self.end() > offset
        cdef int64_t deadline = deadline_after(timeout_ms)
        while bus_durable_end(self.control) <= offset:
            if not self.wait_word(&self.control.durable, &self.control.high_watermark, offset + 1,
                                  deadline):
                return False
            # A word that promises more than a mark vouches for is no promise: sleep, look again.
            if bus_durable_end(self.control) <= offset and \
                    not self.bells.wait_until(self.client_slot, deadline):
                return False
        return True

    def wait_space(self, timeout_ms):
        """Waits until somebody says that the ring may have room; True if somebody did."""
        return self.bells.wait_until(self.client_slot, deadline_after(timeout_ms))

    def ring_data(self):
        bus_wake(&self.control.data, &self.bells.bells)

    def ring_durable(self):
        bus_wake(&self.control.durable, &self.bells.bells)

    def ring_space(self):
        bus_wake(&self.control.space, &self.bells.bells)
