# What only the broker and the replica do with a partition.

#: The broker's wait for a lock that others hold for microseconds. It serves everybody, so it never
#: waits longer: what it could not do it tries again at its next tick.
cdef int64_t BROKER_LOCK_NS = 50_000_000


cdef int create_segment_file(int hot_fd, str name, uint64_t size) except -1:
    """A new file, its bytes reserved: a sparse map on a full tmpfs would kill the writer."""
    fd = _files.open_own(name, _os.O_RDWR | _os.O_CREAT | _os.O_EXCL, dir_fd=hot_fd)
    try:
        _os.posix_fallocate(fd, 0, size)
    except OSError:
        _os.close(fd)
        _os.unlink(name, dir_fd=hot_fd)
        raise
    return fd


cdef class Partition(HotLog):
    """The hot log of one partition, with what the broker and its replica do to it."""

    @staticmethod
    def create(int hot_fd, *, uint64_t bus_id, uint64_t topic_id, uint32_t partition,
               uint32_t flags, uint64_t segment_bytes, uint64_t hot_bytes,
               uint64_t max_message_bytes, uint64_t offset_limit, uint64_t log_start_offset,
               uint64_t base_offset, uint64_t previous_end, uint64_t number, high_watermark=None):
        """Makes the control file and a first hot segment of 1 MiB, so that others can attach.

        high_watermark: if older segments are added, not durable yet. The page's name comes last.
        """
        cdef uint64_t first_bytes = 1 << 20
        cdef Mapping mapping, first
        cdef bus_partition *control
        temporary = f"{topic_id}-{partition}.ctl.new"
        fd = create_segment_file(hot_fd, temporary, sizeof(bus_partition))
        _os.ftruncate(fd, CONTROL_FILE_BYTES) # sparse: nobody ever writes there
        try:
            mapping = Mapping(fd, sizeof(bus_partition), writable=True)
        finally:
            _os.close(fd)
        control = <bus_partition *>mapping.base
        control.magic = BUS_MAGIC_PARTITION
        control.version = BUS_LAYOUT_VERSION
        control.bytes = sizeof(bus_partition)
        control.bus_id = bus_id
        control.topic_id, control.partition = topic_id, partition
        control.flags = flags
        control.segment_bytes = segment_bytes
        control.hot_bytes = hot_bytes
        control.max_message_bytes = max_message_bytes
        control.offset_limit = offset_limit
        control.log_start_offset = log_start_offset
        control.gap_start, control.gap_end = previous_end, base_offset
        bus_publish_durable(control, base_offset if high_watermark is None else high_watermark)
        if bus_lock_create(&control.lock):
            raise OSError("cannot create a robust mutex")
        fd = create_segment_file(hot_fd, f"{topic_id}-{partition}.1.seg", first_bytes)
        try:
            first = Mapping(fd, first_bytes, writable=True)
        finally:
            _os.close(fd)
        bus_segment_begin(<bus_segment *>first.base, control, number, base_offset, previous_end,
                          first_bytes)
        control.ring[0].serial = 1
        control.ring[0].bytes = first_bytes
        control.ring[0].base_offset = base_offset
        control.ring_numbers[0] = number
        control.ends[0].tail = control.tail = BUS_TAIL(number, BUS_DATA_START)
        control.ends[0].next_offset = base_offset
        control.ends[0].max_timestamp = INT64_MIN
        bus_fence_full()
        _os.rename(temporary, temporary[:-4], src_dir_fd=hot_fd, dst_dir_fd=hot_fd)

    # ---- the broker: its way to the lock

    cdef int lock_shortly(self) except -1:
        """Takes the lock, or raises LockTimeoutError after an instant.

        A holder that was waited for in vain is not waited for again: it is stopped.
        """
        cdef bus_lock_result result = bus_lock_nowait(&self.control.lock)
        cdef uint32_t tid
        cdef int64_t patience = BROKER_LOCK_NS
        if result != BUS_LOCK_TAKEN:
            tid = bus_lock_owner(&self.control.lock)
            if result == BUS_LOCK_BUSY and tid != 0 and tid == self.stuck_tid:
                patience = 0
            try:
                self.lock_slowly(result, bus_now_ns() + patience, BROKER_LOCK_NS)
            except _errors.LockTimeoutError:
                self.stuck_tid = tid
                raise
        self.stuck_tid = 0
        return self.locked()

    # ---- the broker: files of the ring

    def add_segment(self, uint64_t serial, uint64_t size, uint64_t number, uint64_t base_offset,
                    uint64_t end_offset):
        """Puts a sealed hot segment file into a free slot of a ring that nobody else uses yet."""
        cdef int slot
        for slot in range(BUS_RING_SLOTS):
            if self.control.ring[slot].serial == 0:
                self.control.ring[slot].bytes = size
                self.control.ring[slot].base_offset = base_offset
                self.control.ring[slot].end_offset = end_offset
                bus_store_release(&self.control.ring_numbers[slot], number)
                bus_store_release(&self.control.ring[slot].serial, serial)
                return
        raise _errors.NoSpaceError("all ring slots of the partition are in use")

    def spare_wanted(self, uint64_t need=0):
        """Bytes of the hot file that the ring lacks, or 0; `need`: what a producer waits for."""
        self.lock_shortly()
        try:
            return bus_ring_wanted(self.control, need)
        finally:
            self.unlock()

    def next_serial(self):
        """A serial above all in the ring; only the broker makes files, so it is free."""
        return 1 + max((slot.serial for slot in self.ring()), default=0)

    def add_spare(self, uint64_t serial, uint64_t size):
        """Puts an existing, allocated hot file into a free slot; wakes who waits for room."""
        self.lock_shortly()
        try:
            if bus_ring_add(self.control, serial, size) != 0:
                raise _errors.NoSpaceError("all ring slots of the partition are in use")
        finally:
            self.unlock()
        self.ring_space()

    def surplus(self, uint64_t need=0):
        """Takes useless files out of the ring; returns their serials, for unlinking."""
        cdef uint64_t serial
        serials = []
        self.lock_shortly()
        try:
            while True:
                serial = bus_ring_drop_surplus(self.control, need)
                if serial == 0:
                    return serials
                serials.append(serial)
        finally:
            self.unlock()

    def roll(self):
        """Seals the active segment and opens the next; False if the ring has no room for one."""
        cdef bus_appended out
        cdef bus_append_status status = BUS_NEED_MAP
        cdef int maps = 0
        memset(&out, 0, sizeof(out))
        if not self.writing:
            self.start_writing()
        while status == BUS_NEED_MAP:
            self.lock_shortly()
            status = bus_log_roll(&self.log, 1, &out)
            self.unlock()
            if status == BUS_NEED_MAP:
                maps += 1
                if maps > MAP_LOOKS_MAX:
                    raise self.unsteady(<int>out.detail)
                self.map_slot(<int>out.detail)
        if status == BUS_APPENDED:
            self.ring_data()
        return status == BUS_APPENDED

    def retire_before(self, uint64_t offset):
        """Takes sealed segments wholly below the offset out of the hot window."""
        self.lock_shortly()
        bus_log_retire_before(self.control, offset)
        self.unlock()
        self.ring_space()

    # ---- the broker: settings

    @property
    def segment_bytes(self):
        return bus_load_acquire(&self.control.segment_bytes)

    @property
    def hot_bytes(self):
        return bus_load_acquire(&self.control.hot_bytes)

    @property
    def lock_owner_tid(self):
        return bus_lock_owner(&self.control.lock)

    def set_settings(self, *, flags=None, segment_bytes=None, hot_bytes=None,
                     max_message_bytes=None):
        if flags is not None:
            bus_store32_release(&self.control.flags, flags)
        if segment_bytes is not None:
            bus_store_release(&self.control.segment_bytes, segment_bytes)
        if hot_bytes is not None:
            bus_store_release(&self.control.hot_bytes, hot_bytes)
        if max_message_bytes is not None:
            bus_store_release(&self.control.max_message_bytes, max_message_bytes)

    def set_offset_limit(self, uint64_t offset):
        """No offset at or above it may be given out. It must be on disk already."""
        bus_store_release(&self.control.offset_limit, offset)
        self.ring_space()

    def fence(self):
        """No offset may be given out; when this returns, every append that saw another limit is
        through. Raises LockTimeoutError if one is in the hands of a stopped process."""
        self.set_offset_limit(0)
        self.lock_shortly()
        self.unlock()

    def set_log_start(self, uint64_t offset):
        bus_store_release(&self.control.log_start_offset, offset)

    def mark_deleted(self):
        """Tells every attached client that the topic is gone.

        When it returns, no append will succeed any more. Raises LockTimeoutError if one is in the
        hands of a stopped process; all others are told nevertheless.
        """
        # Only the broker writes the flags, so this needs no lock; the lock is for the appends that
        # saw the flags before.
        bus_store32_release(&self.control.flags, self.control.flags | BUS_FLAG_DELETED)
        self.ring_data()
        self.ring_durable()
        self.ring_space()
        self.lock_shortly()
        self.unlock()

    def reap_readers(self, int client_slot, uint64_t generation, *, bint claims=False):
        """Frees the reader slots of a client that is proven dead; returns how many there were.

        claims: the caller holds the client's byte, so that nobody else can be in that slot: what
        the client had only claimed is freed as well. Raises LockTimeoutError.
        """
        cdef int freed
        if not bus_reader_has(self.control, client_slot):
            return 0 # the dead attach no more
        self.lock_shortly()
        freed = bus_readers_reap(self.control, client_slot, generation, claims)
        self.unlock()
        if freed:
            self.ring_space()
        return freed

    # ---- the replica

    def begin_sync(self):
        """A sync begins, if none is under way; the next watermark or replica ends it."""
        if not bus_load_acquire(&self.control.replica_sync_began_ns):
            bus_store_release(&self.control.replica_sync_began_ns, <uint64_t>bus_now_ns())

    @property
    def replica_sync_ms(self):
        """For how long the replica has waited for its disk; 0.0 if it does not."""
        cdef uint64_t began = bus_load_acquire(&self.control.replica_sync_began_ns)
        return max(0.0, (bus_now_ns() - <int64_t>began) / 1e6) if began else 0.0

    def set_replica(self, uint32_t pid, uint32_t state):
        bus_store_release(&self.control.replica_sync_began_ns, 0)
        bus_store32_release(&self.control.replica_pid, pid)
        bus_store32_release(&self.control.replica_state, state)
        self.ring_durable()

    def publish_high_watermark(self, uint64_t offset, uint64_t fsync_ns):
        """Every offset below it is verified and on disk. Wakes who waits for that, or for room."""
        self.control.replica_fsync_ns = fsync_ns
        bus_store_release(&self.control.replica_sync_began_ns, 0)
        if offset >= bus_durable_end(self.control): # the same again puts damaged words right
            bus_publish_durable(self.control, offset)
        self.ring_durable()
        self.ring_space()

    cdef Mapping hot_segment(self, uint64_t number):
        cdef int slot = bus_slot_of(self.control, number)
        self.check()
        cdef Mapping mapping = self.map_slot(slot) if slot >= 0 else None
        if mapping is None:
            raise _errors.CorruptSegmentError(
                f"hot segment {number} has left the ring before it was copied")
        return mapping

    def copy(self, uint64_t number, uint64_t position, buffer, uint64_t next_offset):
        """Copies whole frames of a hot segment into private memory and verifies the copies.

        Returns (bytes copied, next offset, sealed, need). sealed: the end frame was copied too.
        need: the next frame takes that many bytes, more than the buffer has (nothing was copied).
        Raises CorruptRecordError naming segment, position, offset and reason.
        """
        cdef uint64_t tail = bus_load_acquire(&self.control.tail)
        cdef Mapping mapping = self.hot_segment(number)
        cdef uint64_t limit = mapping.bytes, seed = self.seed_of(number)
        cdef uint64_t need, size
        cdef Py_buffer target
        cdef bus_scan scan
        self.check()
        if BUS_TAIL_NUMBER(tail) == number:
            limit = min(BUS_TAIL_POSITION(tail), mapping.bytes)
        PyObject_GetBuffer(buffer, &target, PyBUF_WRITABLE)
        try:
            with nogil:
                need = bus_copy_frames(mapping.base, position, limit, next_offset, seed,
                                       <uint8_t *>target.buf, target.len, &scan)
        finally:
            PyBuffer_Release(&target)
        if scan.error != BUS_FRAME_GOOD and scan.end_position == position:
            self.control.corrupt_frames += 1
            reason = mapping.trouble() or bus_frame_state_text(scan.error).decode()
            raise _errors.CorruptRecordError(
                f"segment {number}, position {position}, offset {next_offset}: {reason}",
                segment=number, position=position, offset=next_offset, reason=reason)
        size = scan.end_position - position
        return (size + (sizeof(bus_frame) if scan.sealed else 0), scan.next_offset,
                bool(scan.sealed), need if size == 0 else 0)

    def segment_header(self, uint64_t number, uint64_t previous_end):
        """Header and index of a hot segment, as they are now.

        A damaged header is made anew, behind a log that ended at `previous_end`.
        """
        cdef Mapping mapping = self.hot_segment(number)
        cdef int slot
        if self.is_segment(mapping, number):
            return PyBytes_FromStringAndSize(<char *>mapping.base, BUS_DATA_START)
        slot = bus_slot_of(self.control, number)
        if slot < 0:
            raise _errors.CorruptSegmentError(f"hot segment {number} has left the ring")
        return new_header(self.control.bus_id, self.topic_id, self.partition, number,
                          self.control.ring[slot].base_offset, previous_end,
                          self.control.ring[slot].bytes)

    def find_good(self, uint64_t number, uint64_t position, uint64_t least):
        """(position, offset) where a hot segment goes on behind damage, or None."""
        cdef uint64_t tail = bus_load_acquire(&self.control.tail), offset, at
        cdef uint64_t seed = self.seed_of(number)
        cdef Mapping mapping = self.hot_segment(number)
        cdef uint64_t limit = mapping.bytes
        if BUS_TAIL_NUMBER(tail) == number:
            limit = min(BUS_TAIL_POSITION(tail), mapping.bytes)
        with nogil:
            at = bus_find_good(mapping.base, position, limit, least, UINT64_MAX, seed, &offset)
        return (at, offset) if at else None

    def end_of(self, uint64_t number):
        """(end offset, position or None): where a hot segment ends. The position is that of the
        tail, for the active one; a sealed one that is damaged tells only the offset."""
        cdef uint64_t offset, tail = self.log_end(&offset)
        cdef int slot
        if BUS_TAIL_NUMBER(tail) == number:
            return offset, BUS_TAIL_POSITION(tail)
        slot = bus_slot_of(self.control, number)
        if slot < 0:
            raise _errors.CorruptSegmentError(f"hot segment {number} has left the ring")
        return bus_load_acquire(&self.control.ring[slot].end_offset), None

    def seed(self, uint64_t number):
        """What is mixed into the checksums of that segment's frames."""
        return self.seed_of(number)

    # ---- the replica: what is lost

    def note_lost(self, uint64_t first, uint64_t end):
        """These records never become durable. Stored before the watermark passes them."""
        bus_note_lost(self.control, first, end)
