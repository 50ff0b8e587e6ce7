# A share group's hot path: claims records, finds them in the log, and says what became of them.

cdef extern from "atomics.h" nogil:
    int bus_compare_exchange(uint64_t *word, uint64_t *expected, uint64_t value)


cdef class ShareCursor(Cursor):
    """The records of one partition that this member has claimed.

    What is claimed are offsets; each one is then looked up. An offset of which the log has no
    record, because it was never given out or has been deleted, is done at once.
    """
    cdef readonly AckTable acks
    cdef uint64_t *claimed    # of the last claim
    cdef Py_ssize_t room
    cdef Py_ssize_t count
    cdef Py_ssize_t given     # how many of them have been returned, or were nothing
    cdef public Py_ssize_t want
    cdef public bint running
    cdef bint gathering       # an error may not reach the program, but come again
    cdef Scout scout          # of a keyed group

    def __init__(self, AckTable acks not None, HotLog log not None, str topic not None, **options):
        super().__init__(log, topic, acks.low, **options)
        self.acks = acks
        self.room = self.want = 1
        self.running = True
        self.claimed = <uint64_t *>calloc(1, sizeof(uint64_t))
        if self.claimed == NULL:
            raise MemoryError
        if acks.keyed:
            self.scout = Scout(self)
        acks.attach(options["generation"], self.reader_index())

    def __dealloc__(self):
        free(self.claimed)

    cdef int reader_index(self):
        return <int>(self.reader.slot - self.log.control.readers)

    def hold(self):
        """How many records this member has of the partition."""
        return self.acks.held_by(self.acks.client)

    def detach(self):
        """Gives everything back that was not acknowledged."""
        self.count = self.given = 0
        self.acks.detach()

    cdef int widen(self, Py_ssize_t room) except -1:
        cdef uint64_t *wider
        if room > self.room:
            wider = <uint64_t *>calloc(room, sizeof(uint64_t))
            if wider == NULL:
                raise MemoryError
            free(self.claimed)
            self.claimed = wider
            self.room = room
        return 0

    cdef uint64_t readable(self) except? 0:
        return self.log.durable_end() if self.durable_only else self.log.end()

    # ---- claiming

    cdef bint is_filled(self) noexcept:
        return self.given < self.count

    cdef bint refill(self) except -1:
        if self.reader is None:
            raise _errors.ClosedError("the consumer is closed")
        if self.given < self.count:
            return True
        self.widen(self.want)
        self.given = self.count = 0
        if self.scout is None:
            self.count = self.acks.claim(self.readable(), min(self.want, self.room), self.running,
                                         self.claimed)
        else:
            self.count = self.scout.claim(min(self.want, self.room))
        return self.count > 0

    def close(self):
        """Lets go of the partition; records that are still held stay readable."""
        self.scout = None
        Cursor.close(self)

    cdef int rest(self) except -1:
        """A sleeper must not keep a segment from being recycled."""
        if self.scout is not None:
            self.scout.pin = None
        return 0

    cdef bint has_more(self):
        if self.given < self.count:
            return True
        return bus_acks_has_more(self.acks.acks, self.readable(), bus_now_ns())

    cdef ConsumerRecord next_record(self):
        """The record of the next offset that was claimed; None when there is none left."""
        cdef ConsumerRecord record
        cdef uint64_t offset
        while self.given < self.count:
            offset = self.claimed[self.given]
            try:
                if offset != self.offset:
                    self.go_to(offset)
                if not self.fill():
                    if self.offset > offset: # there is nothing from here to the log end
                        self.miss(self.offset)
                        continue
                    raise _errors.CorruptSegmentError(
                        f"{self.acks.path} knows record {offset}, which is behind the log end"
                        f" {self.log.end()} of {self.log.name}; stop the bus and start it again")
                record = Cursor.next_record(self)
            except _errors.OffsetOutOfRangeError: # deleted before anybody had taken it
                if self.log.start() <= offset:
                    raise
                self.miss(self.log.start())
                continue
            except _errors.CorruptRecordError as error: # told once, to whom claimed it
                if not self.gathering:
                    self.miss(error.next_offset)
                raise
            if record is None:
                if self.placed and self.offset == offset:
                    raise _errors.CorruptSegmentError(
                        f"{self.log.name}: no record {offset} is to be found; run 'bus check'")
                continue
            if record.offset == offset:
                self.given += 1
                return record
            self.miss(record.offset)
        return None

    cdef bint fill(self) except -1:
        """The claimed record can be read; False behind the log end."""
        while not self.placed or not (self.pin is not None and self.position < self.limit):
            if not Cursor.refill(self):
                if self.placed:
                    return False
        return True

    cdef int go_to(self, uint64_t offset) except -1:
        """To a record that is not the next one: in the same segment if it is further on there."""
        cdef uint64_t position = 0
        if self.placed and self.pin is not None and offset > self.offset:
            position = bus_find_offset(self.pin.mapping.base, self.limit, self.base_offset(),
                                       self.seed, offset)
        self.offset = offset
        if position:
            self.position = position
        else:
            self.leave_segment()
        return 0

    cdef uint64_t base_offset(self) noexcept:
        return (<const bus_segment *>self.pin.mapping.base).base_offset

    cdef int miss(self, uint64_t to) except -1:
        """The log has none of the claimed records from the next one to before `to`."""
        cdef uint64_t first = self.claimed[self.given] # overtaken ones may stand in any order
        while self.given < self.count and first <= self.claimed[self.given] < to:
            self.acks.settle(self.claimed[self.given], BUS_ACK_DONE, BUS_ACK_DELIVERIES, 0)
            self.given += 1
        self.acks.jump(to)
        return 0

    # ---- what became of them

    def publish(self):
        """Producers of a topic in memory may overwrite what all members have done with."""
        cdef uint64_t low = bus_acks_low(self.acks.acks)
        cdef bus_partition *control = self.log.control
        cdef bus_claimant *claimant
        cdef uint32_t i
        if self.reader is None or self.reader.slot.position >= low:
            return
        self.reader.publish(low)
        if not self.reader.slot.flags & 1:
            return
        for i in range(min(bus_load32_relaxed(&self.acks.acks.claimants_high),
                           <uint32_t>BUS_CLIENTS)):
            claimant = &self.acks.acks.claimants[i]
            if 0 < claimant.reader <= BUS_READERS and claimant.generation:
                raise_position(&control.readers[claimant.reader - 1], i, claimant.generation, low)
        bus_wake(&control.space, &self.log.bells.bells)

    cdef int rewind(self) except -1:
        """What was claimed last did not reach the program."""
        self.given = 0
        return self.give_back()

    cdef int give_back(self) except -1:
        """What was claimed and not given to the program is for others again."""
        while self.given < self.count:
            self.count -= 1
            self.acks.settle(self.claimed[self.count], BUS_ACK_READY, BUS_ACK_DELIVERIES, 0)
        return 0

    def seek(self, uint64_t offset):
        raise _errors.IllegalStateError("a member of a share group has no position of its own")


cdef void raise_position(bus_reader *reader, uint32_t client, uint64_t generation,
                         uint64_t low) noexcept:
    """Another member is asleep, or long at work: its position is the group's all the same."""
    cdef uint64_t before = bus_load_acquire(&reader.position)
    if bus_load32_acquire(&reader.owner) != client + 1 or reader.generation != generation:
        return
    while before < low and not bus_compare_exchange(&reader.position, &before, low):
        pass


cdef class ShareCore(ConsumerCore):
    """A consumer that reads from ShareCursors."""
    cdef public bint _prefetch # what a poll claims is not begun before start()
    cdef public int64_t _commit_ns # what has been done is committed from then on
    cdef list serving

    cdef int sleep(self, int64_t deadline) except -1:
        """Until records come, come back, or are due again."""
        cdef ShareCursor cursor
        cdef list cursors = self.cursors
        for cursor in cursors:
            cursor.rest()
            bus_sleeper_set(&cursor.acks.acks.sleepers, self.slot)
            deadline = min(deadline, cursor.acks.next_due())
        try:
            ConsumerCore.sleep(self, deadline)
        finally:
            for cursor in cursors:
                bus_sleeper_clear(&cursor.acks.acks.sleepers, self.slot)
        return 0

    cdef list take(self, Cursor cursor, Py_ssize_t most):
        """Claims no more than are returned."""
        cdef ShareCursor mine = <ShareCursor>cursor
        mine.want = most
        mine.running = not self._prefetch
        mine.gathering = True
        try:
            return ConsumerCore.take(self, cursor, most)
        except _errors.CorruptRecordError as error:
            if self.in_hand == 0: # else the program does not hear of it now
                mine.miss(error.next_offset)
            raise
        finally:
            mine.give_back()
            mine.gathering = False
            mine.want = 1 # an iteration claims one at a time: what it has not begun is for others
            mine.running = True

    def _serve(self, list cursors):
        """The cursors whose records may be acknowledged."""
        self.serving = cursors

    # ---- what became of a record; from any thread: the mutex is never held without the GIL

    cdef ShareCursor cursor_of(self, ConsumerRecord record):
        cdef ShareCursor cursor
        for cursor in self.serving:
            if cursor.source is record.source:
                return cursor
        raise _errors.IllegalStateError(
            f"record {record.offset} of {record.topic}-{record.partition} is not from this consumer"
            " as it is now: it was read by another one, or before a fork or a stop of the bus")

    def _settle(self, ConsumerRecord record not None, int state, int cause=0, double delay_ms=-1):
        """Says what becomes of a record. False if this member does not have it."""
        cdef ShareCursor cursor = self.cursor_of(record)
        cdef int64_t due_ns = INT64_MAX
        cdef bint known
        if delay_ms >= 0:
            due_ns = bus_now_ns() + <int64_t>min(delay_ms * 1e6, 9e15)
        known = cursor.acks.settle(record.offset, <bus_ack_state>state, <bus_ack_count>cause,
                                   due_ns)
        cursor.publish()
        self.due_ns = min(self.due_ns, self._commit_ns)
        return known

    def _attempts(self, ConsumerRecord record not None):
        return self.cursor_of(record).acks.attempts(record.offset)

    def ack(self, *records):
        """These records are done: nobody gets them again.

        Raises IllegalStateError for a record that this consumer does not have, after all others
        were acknowledged: it was acknowledged before, given back, or taken back.
        """
        cdef ConsumerRecord record
        cdef ShareCursor cursor
        cdef list unknown = None
        for record in records:
            cursor = self.cursor_of(record)
            if not cursor.acks.settle(record.offset, BUS_ACK_DONE, BUS_ACK_DELIVERIES, 0):
                unknown = unknown or []
                unknown.append(record)
            cursor.publish()
        self.due_ns = min(self.due_ns, self._commit_ns)
        if unknown:
            raise not_held(unknown)

    def __iter__(self):
        self._prefetch = False
        return self


def not_held(list records):
    """The error of who speaks of records that it does not have."""
    names = ", ".join(f"{record.topic}-{record.partition} offset {record.offset}"
                      for record in records[:5])
    more = f" and {len(records) - 5} more" if len(records) > 5 else ""
    return _errors.IllegalStateError(
        f"this consumer does not have {names}{more}: acknowledged or given back before, or taken"
        " back by an idle member before it was started")
