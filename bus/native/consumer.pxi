# The consumer's hot path: whose turn it is, what is there, and sleeping when there is nothing.
# Everything rare (groups, commits, the catalog, the end) is in bus/consumer.py, which extends this.

cdef bint any_has_more(list cursors):
    for cursor in cursors:
        if (<Cursor>cursor).has_more():
            return True
    return False


#: A reader that keeps finding records just after it had read all naps longer and longer.
cdef int64_t NAP_STEP_NS = 250
cdef int64_t NAP_NS_MAX = 8000


cdef class ConsumerCore:
    """Reads from a list of cursors in turn, as long as nothing else is due.

    Due is: a rebalance of the group, a change of a topic, a stop of the bus, or the time at which
    `_coordinate` asked to be called again.
    """
    cdef list cursors
    cdef Py_ssize_t turn       # index of the cursor that is read from
    cdef Py_ssize_t budget     # records until the next cursor has its turn
    cdef Py_ssize_t turn_records
    cdef Cursor current
    cdef Bells bells
    cdef int slot
    cdef int64_t spin_ns
    cdef int64_t nap_ns        # see nap
    cdef int64_t due_ns        # monotonic
    cdef int64_t timeout_ns    # of the iteration
    cdef uint64_t catalog_seen
    cdef Table group           # keeps group_word mapped
    cdef uint64_t *group_word  # generation of the consumer group, or NULL
    cdef uint64_t group_seen
    cdef uint64_t born
    cdef bint pending          # somebody still holds what the group's plan gives to us
    cdef object remote         # of a guest: sleeps on the gateway's word instead of a doorbell
    cdef public bint _closed
    cdef unsigned long user    # the thread that is inside, while depth > 0
    cdef int depth             # calls within calls: a listener may call back
    cdef Py_ssize_t in_hand    # records of this poll so far

    def _attach(self, Bells bells, int slot, *, int64_t spin_ns, Py_ssize_t turn_records,
                timeout_ms, remote=None):
        """Begins with nothing to read; again after a fork."""
        self.bells = bells
        self.remote = remote
        self.slot = slot
        self.spin_ns = spin_ns
        self.turn_records = turn_records
        self.timeout_ns = -1 if timeout_ms is None else <int64_t>(timeout_ms * 1e6)
        self.born = forks
        self._read_from([], 0, 0)
        self._watch(None, 0, 0)

    def _read_from(self, list cursors, uint64_t catalog_seen, int64_t due_ns,
                   bint pending=False):
        """From here on these cursors are read, until something is due.

        pending: every ring of the doorbell may mean that there is more to coordinate.
        """
        self.cursors = cursors
        self.current = None
        self.budget = 0
        self.catalog_seen = catalog_seen
        self.due_ns = due_ns
        self.pending = pending

    def _watch(self, Table group, int64_t at, uint64_t seen):
        """A rebalance is due as soon as the word at `at` is not `seen`."""
        self.group = group
        self.group_word = NULL if group is None else <uint64_t *>group.at(at, 8)
        self.group_seen = seen

    cdef inline bint has_moved(self) noexcept:
        cdef bus_control *control = self.bells.bells.control
        return (self.group_word != NULL and bus_load_relaxed(self.group_word) != self.group_seen) \
            or bus_load_relaxed(&control.catalog_version) != self.catalog_seen \
            or bus_load32_relaxed(&control.stopping) != 0 \
            or self._closed or self.born != forks

    def _is_due(self):
        """True if `_coordinate` has something to do."""
        return self.has_moved() or bus_now_ns() >= self.due_ns

    def _publish(self):
        """Everything that was returned so far has been processed: producers may overwrite it."""
        for cursor in self.cursors:
            (<Cursor>cursor).publish()

    # ---- the door: one thread at a time, and nobody after close()

    cdef int enter(self) except -1:
        cdef unsigned long me = PyThread_get_thread_ident()
        if self._closed:
            raise _errors.ClosedError("the consumer is closed; make another one")
        if self.born != forks:
            self.depth = 0 # whoever was inside did not come along into the forked child
        if self.depth > 0 and self.user != me:
            raise _errors.IllegalStateError("the consumer is being used by another thread")
        self.user = me
        self.depth += 1
        if self.born != forks:
            try:
                self._revive()
            except BaseException:
                self.leave()
                raise
        return 0

    cdef int leave(self) except -1:
        """A close() that came meanwhile takes effect now."""
        self.depth -= 1
        if self.depth == 0 and self._closed:
            self._shut()
        return 0

    def _visit(self):
        return Visit(self)

    @property
    def _in_use_now(self):
        """True while a thread is inside; it does the rest of a close() when it leaves."""
        return self.depth > 0 and self.born == forks

    # ---- iteration

    def __iter__(self):
        return self

    def __next__(self):
        cdef ConsumerRecord record
        if self.current is not None and self.budget > 0 and self.current.is_filled() \
                and not self.has_moved():
            record = self.current.next_record()
            if record is not None:
                self.budget -= 1
                return record
        if self._closed:
            raise StopIteration
        self.enter()
        try:
            return self.next_filled()
        finally:
            self.leave()

    cdef object next_filled(self):
        cdef ConsumerRecord record
        if self.current is not None and self.budget > 0 and not self.has_moved() \
                and self.refill(self.current):
            record = self.current.next_record()
            if record is not None:
                self.budget -= 1
                return record
        return self.next_turn()

    cdef bint refill(self, Cursor cursor) except -1:
        try:
            return cursor.refill()
        except _errors.OffsetOutOfRangeError as error:
            self._out_of_range(cursor, error)
            return cursor.refill()

    cdef object next_turn(self):
        cdef ConsumerRecord record
        cdef int64_t until = -1, now
        cdef bint rung = False, hurried = self.budget > 0
        self._publish()
        if hurried:
            self.nap()
        while True:
            now = bus_now_ns()
            if rung or self.has_moved() or now >= self.due_ns:
                self._advance()
            record = self.from_any()
            if record is not None:
                if hurried:
                    self.nap_ns = min(self.nap_ns + NAP_STEP_NS, NAP_NS_MAX)
                return record
            hurried = False
            self.nap_ns = 0
            if self.timeout_ns >= 0 and until < 0:
                until = now + self.timeout_ns
            if until >= 0 and now >= until:
                raise StopIteration
            self.sleep(min(self.due_ns, until) if until >= 0 else self.due_ns)
            rung = self.pending

    cdef void nap(self) noexcept:
        """Keeps away from the log for an instant, when a stream of records is being written.

        A reader on the heels of the writer takes the cache line of the tail away from it at every
        record. Looking less often, it finds several records at a time, and both go faster.
        """
        cdef int64_t until
        if self.nap_ns > 0:
            until = bus_now_ns() + self.nap_ns
            while bus_now_ns() < until:
                bus_cpu_relax()

    cdef ConsumerRecord from_any(self):
        """A record of the first cursor that has one, beginning with the next in turn."""
        cdef Py_ssize_t i, count = len(self.cursors)
        cdef ConsumerRecord record
        for i in range(count):
            self.turn = (self.turn + 1) % count
            self.current = <Cursor>self.cursors[self.turn]
            self.budget = self.turn_records
            while self.current.is_filled() or self.refill(self.current):
                record = self.current.next_record()
                if record is not None:
                    self.budget -= 1
                    return record
                if self.current.placed:
                    break # not between two segments: no more durable records
        self.current = None
        return None

    def _advance(self):
        """Looks after what is due. Raises StopIteration when the consumer was closed."""
        raise StopIteration

    def _out_of_range(self, cursor, error):
        """Moves the cursor to where the reset policy says, or raises the error."""
        raise error

    # ---- polling

    def _gather(self, Py_ssize_t most):
        """{TopicPartition: [records]} of what is there, at most that many records in all."""
        cdef Py_ssize_t i, count = len(self.cursors)
        cdef Cursor cursor
        found = {}
        self.in_hand = 0
        for i in range(count):
            self.turn = (self.turn + 1) % count
            cursor = <Cursor>self.cursors[self.turn]
            try:
                records = self.take(cursor, most)
            except _errors.BusError:
                if not found:
                    raise
                continue # good records first; the error comes again when it stands alone
            if records:
                found[cursor.topic_partition] = records
                self.in_hand += len(records)
                most -= len(records)
                if most <= 0:
                    break
        return found

    cdef list take(self, Cursor cursor, Py_ssize_t most):
        cdef list records = []
        cdef ConsumerRecord record
        try:
            while most > 0 and (cursor.is_filled() or self.refill(cursor)):
                record = cursor.next_record()
                if record is not None:
                    records.append(record)
                    most -= 1
                elif cursor.placed:
                    break
        except _errors.BusError:
            if not records:
                raise
        return records

    def _rewind(self):
        """What was taken since the last `_publish` did not reach the program: it comes again."""
        for cursor in self.cursors:
            (<Cursor>cursor).rewind()

    # ---- sleeping

    def _sleep(self, int64_t deadline_ns):
        """Until there may be something to read or to do, or until that monotonic time."""
        self.sleep(min(deadline_ns, self.due_ns))

    cdef int sleep(self, int64_t deadline) except -1:
        """Spins a little, then sets the sleeper bits, looks again, and waits on the doorbell."""
        cdef int64_t spin_until = bus_now_ns() + self.spin_ns
        cdef Cursor cursor
        cdef list cursors = self.cursors
        while self.spin_ns > 0 and bus_now_ns() < min(spin_until, deadline):
            if any_has_more(cursors) or self.has_moved():
                return 0
            bus_cpu_relax()
        if self.remote is not None:
            self.remote.sleep(cursors, deadline)
            return 0
        for cursor in cursors:
            cursor.pin = None # a sleeper must not keep a segment from being recycled
            bus_sleeper_set(cursor.sleepers(), self.slot)
        try:
            if not any_has_more(cursors) and not self.has_moved():
                self.bells.wait_until(self.slot, deadline)
        finally:
            for cursor in cursors:
                bus_sleeper_clear(cursor.sleepers(), self.slot)
        return 0


@cython.final
@cython.freelist(4)
cdef class Visit:
    """`with`: being inside a consumer. Native, so that no signal handler can run between taking the
    place and the block that gives it back."""
    cdef ConsumerCore core

    def __cinit__(self, ConsumerCore core not None):
        self.core = core

    def __enter__(self):
        self.core.enter()
        return (<object>self.core)._fetcher

    def __exit__(self, *error):
        self.core.leave()
