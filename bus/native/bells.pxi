# Doorbells: one named semaphore a client. liveness.py says when they are made and unlinked.

cdef class Bells:
    """The doorbells of a bus: rings any client by its slot, waits on its own."""
    cdef bus_bells bells
    cdef Table control
    cdef int waiting[1024]     # threads of this process waiting on a slot's bell
    cdef uint64_t rounds[1024] # raised by a post that all of them must hear of
    cdef int owed[1024]        # threads that waited then, and have not looked yet
    cdef int64_t patience       # the next slice of a wait, in ns
    cdef uint64_t born         # forks when this was made

    def __init__(self, Table control not None):
        if control.mapping.bytes < sizeof(bus_control):
            raise _errors.CorruptSegmentError("bus.ctl is too short; restart the bus")
        self.control = control
        self.bells.control = <bus_control *>control.mapping.base
        self.patience = SLICE_NS
        self.born = forks

    def __dealloc__(self):
        if self.bells.control != NULL:
            bus_bells_close(&self.bells)

    cdef int check(self, int slot) except -1:
        if not 0 <= slot < BUS_CLIENTS:
            raise IndexError(f"client slots are 0..{BUS_CLIENTS - 1}, not {slot}")
        return 0

    def name(self, int slot):
        """Name of the semaphore of the client that holds this slot now."""
        cdef char name[80]
        self.check(slot)
        bus_bell_name(self.bells.control, slot, name)
        return name.decode()

    def create(self, int slot):
        """Makes the semaphore of the client that holds this slot now. Raises OSError."""
        name = self.name(slot).encode()
        cdef int error = bus_bell_create(name)
        if error:
            raise OSError(error, _os.strerror(error))

    def ring(self, int slot):
        """Wakes the client in that slot; a client that is gone is no error."""
        self.check(slot)
        bus_bell_ring(&self.bells, slot)

    def wait(self, int slot, timeout_ms):
        """Waits for a post on this process's own bell. True: rung. False: the time is over.

        Raises whatever a signal handler raises, at once.
        """
        self.check(slot)
        return self.wait_until(slot, deadline_after(timeout_ms))

    cdef bint wait_until(self, int slot, int64_t deadline) except -1:
        cdef int64_t part
        cdef int rung = 0
        cdef uint64_t my_round = self.rounds[slot]
        self.waiting[slot] += 1
        try:
            while not rung:
                part = slice_until(deadline, self.patience)
                if part == 0:
                    return False
                self.patience = min(2 * self.patience, SLICE_NS_MAX)
                with nogil:
                    rung = bus_bell_wait(&self.bells, slot, part)
                PyErr_CheckSignals()
                if rung < 0:
                    raise _errors.BrokerNotRunningError(
                        "this client's doorbell is gone: the bus was stopped or restarted")
            self.patience = SLICE_NS
        finally:
            self.waiting[slot] -= 1
            self.pass_on(slot, my_round, rung > 0)
        return True

    cdef void pass_on(self, int slot, uint64_t my_round, bint rung):
        """A post wakes one thread, but all that share the bell must look: each of those that waited
        when it came wakes the next. One that began to wait later only hands it on."""
        if self.rounds[slot] != my_round:
            self.owed[slot] -= 1
        elif rung and self.owed[slot] == 0:
            self.rounds[slot] += 1
            self.owed[slot] = self.waiting[slot]
        if rung and self.owed[slot] > 0:
            bus_bell_ring(&self.bells, slot)
            if self.rounds[slot] == my_round: # let one of the others have it
                with nogil:
                    usleep(50)
