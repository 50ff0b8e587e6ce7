# Shared files as Python sees them: mapped bytes, ordered words, one robust mutex.
import os as _os
import stat as _stat

from bus import errors as _errors
from bus import files as _files

#: A signal ends a wait at once; but one that comes in the instant before the wait begins is seen
#: only after it. So waits are cut into slices. They grow as long as nothing happens, over many
#: waits, so that an idle process hardly wakes.
cdef int64_t SLICE_NS = 50_000_000
cdef int64_t SLICE_NS_MAX = 2_000_000_000
cdef int64_t MS = 1_000_000
cdef int MADV_POPULATE_READ = 22
cdef int MADV_POPULATE_WRITE = 23

#: Raised in the child after every fork: handles from before it must be attached anew.
cdef uint64_t forks = 0


def _count_fork():
    global forks
    forks += 1


_os.register_at_fork(after_in_child=_count_fork)


def _layout():
    names = {}
    cdef int i = 0
    while bus_layout_names[i].name != NULL:
        names[bus_layout_names[i].name.decode()] = bus_layout_names[i].value
        i += 1
    return names


LAYOUT = _layout()


def crc32c(data, uint32_t crc=0):
    """CRC-32C of a bytes-like object; pass the last result as `crc` to carry on."""
    cdef Py_buffer buffer
    PyObject_GetBuffer(data, &buffer, PyBUF_SIMPLE)
    try:
        return bus_crc32c(crc, buffer.buf, buffer.len)
    finally:
        PyBuffer_Release(&buffer)


def murmur2(data):
    """Kafka's murmur2 of a bytes-like object, as an unsigned 32-bit number."""
    cdef Py_buffer buffer
    PyObject_GetBuffer(data, &buffer, PyBUF_SIMPLE)
    try:
        return bus_murmur2(buffer.buf, buffer.len)
    finally:
        PyBuffer_Release(&buffer)


def crc32c_implementation():
    """'hardware' where the processor has the instruction, else 'table'."""
    return "hardware" if bus_crc32c_has_hardware() else "table"


cdef int64_t deadline_after(object timeout_ms) except? -1:
    """Monotonic nanoseconds; None waits for ever."""
    if timeout_ms is None:
        return 9223372036854775807
    return bus_now_ns() + <int64_t>min(max(timeout_ms * 1e6, 0), 9e15)


cdef int64_t slice_until(int64_t deadline, int64_t longest):
    cdef int64_t left = deadline - bus_now_ns()
    return max(<int64_t>0, min(left, longest))


cdef uint32_t ALWAYS_DAMAGED = 1


cdef Mapping stand_in(uint64_t size, bint writable, str fault):
    """Zeros in the place of a file that cannot be mapped: no frame in it verifies, and nothing is
    published from it. So a missing file is treated like a damaged one."""
    cdef Mapping mapping
    cdef int protection = PROT_READ | PROT_WRITE if writable else PROT_READ
    cdef void *at = mmap(NULL, size, protection, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)
    if at == MAP_FAILED:
        raise _errors.CorruptSegmentError(f"{fault}; and {size} bytes cannot be its size")
    mapping = Mapping.__new__(Mapping, -1, 0)
    mapping.guard = bus_guard_add(at, size, writable)
    mapping.base = <uint8_t *>at
    mapping.bytes = size
    mapping.writable = writable
    mapping.mark = &ALWAYS_DAMAGED
    mapping.fault = fault
    return mapping


cdef class Mapping:
    """Mapped bytes of a file, unmapped when the last object that points into them is gone."""
    cdef uint8_t *base
    cdef uint64_t bytes
    cdef bint writable
    cdef int guard            # place in the registry of guard.c
    cdef const uint32_t *mark # not 0: the file was truncated under our eyes
    cdef readonly str fault   # what was wrong with the file before it was mapped, or None

    def __cinit__(self, int fd, uint64_t size, *, bint writable=False):
        cdef int protection = PROT_READ | PROT_WRITE if writable else PROT_READ
        cdef int kind = MAP_SHARED if fd >= 0 else MAP_PRIVATE | MAP_ANONYMOUS
        cdef void *at
        if fd < 0 and size == 0: # filled in by stand_in
            return
        at = mmap(NULL, size, protection, kind, fd, 0)
        if at == MAP_FAILED:
            raise OSError(errno, f"cannot map {size} bytes: {_os.strerror(errno)}")
        self.guard = bus_guard_add(at, size, writable)
        if self.guard < 0:
            munmap(at, size)
            raise OSError(ENOMEM, "too many mapped files in one process")
        self.mark = bus_guard_mark(self.guard)
        self.base = <uint8_t *>at
        self.bytes = size
        self.writable = writable

    @staticmethod
    cdef Mapping anonymous(uint64_t size):
        """Memory of this process's own."""
        return Mapping(-1, size, writable=True)

    def __dealloc__(self):
        # The list of robust mutexes of a thread may lead through a lock in a page that is gone:
        # such a mapping stays, for the next lock that is taken writes into it.
        if self.base == NULL or (self.writable and self.mark[0] and self.fault is None):
            return
        if self.guard >= 0:
            bus_guard_remove(self.guard)
        munmap(self.base, self.bytes)

    @property
    def is_damaged(self):
        """True when a page that was looked at was not there: somebody truncated the file. Such
        pages read as zeros, also in records and views that were handed out before."""
        return self.mark[0] != 0

    cdef str trouble(self):
        """What is wrong with the file as a whole, or None."""
        if self.fault is not None:
            return self.fault
        return "the file was truncated while it was mapped" if self.mark[0] else None

    def __len__(self):
        return self.bytes

    def __getbuffer__(self, Py_buffer *buffer, int flags):
        PyBuffer_FillInfo(buffer, self, self.base, self.bytes, not self.writable, flags)

    cdef void prefault(self):
        """One call, not one fault a page. A kernel before 5.14 refuses: then faults come later."""
        madvise(self.base, self.bytes,
                MADV_POPULATE_WRITE if self.writable else MADV_POPULATE_READ)


cdef object lock_timeout(bus_mutex *lock, int64_t waited_ns, str what, Table control):
    """The error of who waited in vain: it names the process that holds the lock, and its state."""
    from bus import holder # here, because it looks at shared tables through this module
    cdef uint32_t tid = bus_lock_owner(lock)
    return _errors.LockTimeoutError(
        holder.explain_lock(what, tid, waited_ns // MS, control), owner_tid=tid,
        owner_pid=holder.look_at(tid).pid)


cdef object left_behind(uint64_t topic_id, uint32_t partition, uint64_t count):
    """The error of who appended while the bus left the hot directory."""
    return _errors.OutcomeUnknownError(
        f"the bus moved to another hot directory while {count} records were appended to partition "
        f"{partition} of topic {topic_id}: they may or may not be in the log; send them again if "
        "they may be there twice")


cdef int wait_for_lock(bus_mutex *lock, bus_lock_result result, int64_t deadline,
                       int64_t waited_ns, str what, Table control) except -1:
    """Goes on where bus_lock_nowait ended: BUS_LOCK_TAKEN or BUS_LOCK_OWNER_DIED, taken either way.

    The GIL is released while waiting. waited_ns and control are for the message of the error.
    """
    cdef int64_t part
    while result == BUS_LOCK_BUSY:
        part = slice_until(deadline, SLICE_NS)
        if part == 0:
            raise lock_timeout(lock, waited_ns, what, control)
        with nogil:
            result = bus_lock_wait(lock, part)
        if result == BUS_LOCK_BUSY:
            PyErr_CheckSignals()
            if control is not None and (<bus_control *>control.mapping.base).stopping > 1:
                raise _errors.BrokerNotRunningError( # nobody may ever give back what is spoiled
                    f"{what} is being left with its hot directory, whose pages were overwritten")
    if result == BUS_LOCK_LOST:
        raise _errors.CorruptSegmentError(
            f"the lock of {what} is unusable: its shared memory was overwritten; restart the bus")
    return result


cdef class Table:
    """A shared file, mapped, with at most one robust mutex and words read and written in order.

    Word positions are bytes from the start of the file; 64-bit words stand on multiples of 8,
    32-bit words on multiples of 4. IndexError is raised for a position outside the file.
    """
    cdef Mapping mapping
    cdef bus_mutex *mutex
    cdef readonly object view
    cdef readonly str path # for messages

    def __init__(self, int fd, uint64_t size, *, int64_t mutex_at=-1, bint writable=True):
        self.path = _os.readlink(f"/proc/self/fd/{fd}")
        self.mapping = Mapping(fd, size, writable=writable)
        self.view = memoryview(self.mapping)
        self.mutex = <bus_mutex *>self.at(mutex_at, 64) if mutex_at >= 0 else NULL

    cdef void *at(self, int64_t position, int size) except NULL:
        if position < 0 or position % min(size, 8) or position + size > <int64_t>self.mapping.bytes:
            raise IndexError(f"no {size}-byte word at {position}")
        return self.mapping.base + position

    def __len__(self):
        return self.mapping.bytes

    def create_mutex(self):
        """Initialises the mutex; once, by the creator, before anyone else can see the file."""
        cdef int error = bus_lock_create(self.mutex)
        if error:
            raise OSError(error, "cannot create a robust mutex")

    def lock(self, timeout_ms):
        """Takes the mutex. True: a holder died; repair what it guards, then call repaired().

        Who unlocks it without that leaves the repair to the next one.
        """
        self.load32_acquire(0) # a file that is gone has no lock
        if BUS_LOCK_OWNER_DIED == wait_for_lock(
                self.mutex, bus_lock_nowait(self.mutex), deadline_after(timeout_ms),
                0 if timeout_ms is None else <int64_t>(timeout_ms * MS), self.path, None):
            bus_lock_inherit(self.mutex)
        if self.mapping.mark[0]:
            bus_unlock(self.mutex)
            self.check()
        return bus_lock_unrepaired(self.mutex)

    def repaired(self):
        bus_lock_mended(self.mutex)

    def unlock(self):
        bus_unlock(self.mutex)

    @property
    def is_free(self):
        """True if nobody holds the mutex, and nobody has died in it since it was last taken."""
        return bus_lock_is_free(self.mutex)

    @property
    def needs_repair(self):
        """True if a holder died, and nobody has repaired since what it left, nor is at it."""
        return bus_lock_owner(self.mutex) == 0 and (
            not bus_lock_is_free(self.mutex) or bus_lock_unrepaired(self.mutex))

    @property
    def owner_tid(self):
        """Thread id of the lock's holder, 0 if it is free; for messages."""
        return bus_lock_owner(self.mutex)

    cdef int check(self) except -1:
        """After a look: the zeros of a page that is gone mean nothing. What is stored there is gone
        with it, and harms nobody: who ends must not fail at that."""
        if self.mapping.mark[0]:
            raise _errors.CorruptSegmentError(
                f"{self.path} was truncated while it was mapped; stop the bus and start it again")
        return 0

    def load_acquire(self, int64_t at):
        cdef uint64_t value = bus_load_acquire(<uint64_t *>self.at(at, 8))
        self.check()
        return value

    def store_release(self, int64_t at, uint64_t value):
        bus_store_release(<uint64_t *>self.at(at, 8), value)

    def add(self, int64_t at, uint64_t value):
        """Adds atomically and returns the value before."""
        return bus_fetch_add(<uint64_t *>self.at(at, 8), value)

    def load32_acquire(self, int64_t at):
        cdef uint32_t value = bus_load32_acquire(<uint32_t *>self.at(at, 4))
        self.check()
        return value

    def store32_release(self, int64_t at, uint32_t value):
        bus_store32_release(<uint32_t *>self.at(at, 4), value)

    def fence(self):
        """Every store before it is seen before any load behind it."""
        bus_fence_full()

    def occupied(self, int64_t at, int64_t stride, int64_t count):
        """Indexes of the slots whose first 32-bit word is not 0; each one is load-acquired."""
        cdef int64_t i
        found = []
        if count > 0:
            self.at(at + (count - 1) * stride, 4)
        for i in range(count):
            if bus_load32_acquire(<uint32_t *>self.at(at + i * stride, 4)):
                found.append(i)
        self.check()
        return found
