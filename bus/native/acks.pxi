# The ack table of a share group, as Python sees it: see acks.h.
from bus.native.tuples import Acknowledged, Claimed

cdef extern from "acks.h" nogil:
    enum:
        BUS_ACK_WINDOW, BUS_ACK_OVERTAKEN, BUS_ACK_LANES, BUS_ACK_DELETED, BUS_ACK_KEYED
        BUS_ACK_COUNTS, BUS_LANE_GAP
    cdef enum bus_ack_state:
        BUS_ACK_NONE, BUS_ACK_READY, BUS_ACK_CLAIMED, BUS_ACK_RUNNING, BUS_ACK_DELAYED
        BUS_ACK_DONE, BUS_ACK_DEAD, BUS_ACK_WAITING, BUS_ACK_KEPT
    cdef enum bus_ack_count:
        BUS_ACK_DELIVERIES, BUS_ACK_FAILURE, BUS_ACK_TIMEOUT, BUS_ACK_CRASH, BUS_ACK_OOM
    const uint64_t BUS_MAGIC_ACKS
    const int64_t BUS_ACK_STEAL_NS
    ctypedef struct bus_ack:
        uint64_t offset
        uint64_t word
        int64_t due_ns
        uint8_t counts[8]
    ctypedef struct bus_lane:
        uint64_t parked
    ctypedef struct bus_claimant:
        uint64_t generation
        uint32_t held
        uint32_t reader
    ctypedef struct bus_acks:
        uint64_t magic
        uint32_t version
        uint32_t bytes
        uint64_t bus_id
        uint64_t group_id
        uint64_t topic_id
        uint32_t partition
        uint32_t flags
        bus_mutex lock
        uint64_t low
        uint64_t base
        uint64_t next
        uint32_t ready
        uint32_t delayed
        uint32_t overtaken_count
        uint32_t claimants_high
        int64_t next_due_ns
        uint64_t done
        uint64_t dead
        uint64_t returned
        uint64_t reaped
        uint64_t stolen
        uint32_t unbegun
        uint32_t waiting
        uint32_t lanes_ready
        uint64_t kept
        bus_sleepers sleepers
        bus_claimant claimants[1024]
        bus_ack overtaken[4096]
        bus_ack ring[65536]
        bus_lane lanes[4096]
    int bus_acks_sound(const bus_acks *acks)
    void bus_acks_begin(bus_acks *acks, uint64_t offset)
    void bus_acks_mend(bus_acks *acks)
    uint64_t bus_acks_claim(bus_acks *acks, int client, bus_ack_state state, uint64_t end,
                            uint64_t most, int64_t now_ns, uint64_t *offsets)
    int bus_acks_settle(bus_acks *acks, int client, uint64_t offset, bus_ack_state state,
                        bus_ack_count cause, int64_t due_ns)
    void bus_acks_jump(bus_acks *acks, uint64_t to)
    uint64_t bus_acks_take_back(bus_acks *acks, int client, int died)
    bus_ack *bus_acks_find(bus_acks *acks, uint64_t offset)
    int bus_acks_has_more(const bus_acks *acks, uint64_t end, int64_t now_ns)
    uint16_t bus_lane_of(const void *key, uint64_t bytes)
    uint64_t bus_acks_admit(bus_acks *acks, uint64_t start, const uint16_t *lanes, uint64_t count)
    uint16_t bus_acks_parked(const bus_acks *acks, uint16_t start, uint64_t *begin, uint64_t *to)
    int bus_acks_unpark(bus_acks *acks, uint16_t lane, uint64_t begin, uint64_t offset, int is_one)
    uint64_t bus_acks_low(const bus_acks *acks)
    bus_ack_state bus_ack_state_of(const bus_ack *ack)
    uint32_t bus_ack_owner(const bus_ack *ack)
    uint16_t bus_ack_lane(const bus_ack *ack)
    int bus_acks_keyed(const bus_acks *acks)

#: How long somebody waits for another process in the table: a claim takes about a microsecond.
cdef int64_t ACKS_TIMEOUT_NS = 10_000_000_000


cdef class AckTable(Table):
    """Who works on which record of one partition: one process's view of a share group's table.

    `client` is the slot of whom it claims for, -1 for somebody who only looks and mends.
    """
    cdef bus_acks *acks
    cdef readonly int client
    cdef Bells bells
    cdef bint met_death

    def __init__(self, int fd, *, Bells bells=None, int client=-1):
        super().__init__(fd, sizeof(bus_acks), mutex_at=64)
        self.acks = <bus_acks *>self.mapping.base
        self.bells = bells
        self.client = client

    @staticmethod
    def bytes_needed():
        return sizeof(bus_acks)

    def begin(self, uint64_t bus_id, uint64_t group_id, uint64_t topic_id, uint32_t partition,
              uint64_t offset, bint keyed=False):
        """Fills in a new file, of zeros, that nobody else can see yet: all below is done."""
        self.create_mutex()
        self.acks.version = BUS_LAYOUT_VERSION
        self.acks.bytes = sizeof(bus_acks)
        self.acks.bus_id = bus_id
        self.acks.group_id = group_id
        self.acks.topic_id = topic_id
        self.acks.partition = partition
        self.acks.flags = BUS_ACK_KEYED if keyed else 0
        bus_acks_begin(self.acks, offset)
        self.acks.magic = BUS_MAGIC_ACKS

    @property
    def identity(self):
        """(bus id, group id, topic id, partition)."""
        return (self.acks.bus_id, self.acks.group_id, self.acks.topic_id, self.acks.partition)

    @property
    def keyed(self):
        """Whether records of one key are worked on one after the other."""
        return bool(bus_acks_keyed(self.acks))

    # ---- the mutex

    cdef int take(self, int64_t wait_ns) except -1:
        """Takes the mutex; what a dead holder left is mended first."""
        cdef Table control = None if self.bells is None else self.bells.control
        cdef bus_lock_result result
        self.load32_acquire(0)
        result = bus_lock_nowait(self.mutex)
        if result != BUS_LOCK_TAKEN:
            if wait_for_lock(self.mutex, result, bus_now_ns() + wait_ns, wait_ns, self.path,
                             control) == BUS_LOCK_OWNER_DIED:
                bus_lock_inherit(self.mutex)
        if bus_lock_unrepaired(self.mutex):
            bus_acks_mend(self.acks)
            bus_lock_mended(self.mutex)
            self.met_death = True
        if self.mapping.mark[0] or not bus_acks_sound(self.acks):
            bus_unlock(self.mutex)
            self.check()
            raise _errors.CorruptSegmentError(
                f"{self.path} was overwritten; stop the bus and start it again")
        if self.client >= 0 and (self.acks.flags & BUS_ACK_DELETED
                                 or (<bus_control *>control.mapping.base).stopping):
            bus_unlock(self.mutex)
            raise _errors.BrokerNotRunningError(
                f"{self.path} is not used any more: the bus was stopped, or the group or the topic"
                " deleted; what was not acknowledged comes again")
        return 0

    cdef int give(self) except -1:
        bus_unlock(self.mutex)
        if self.met_death: # told without the mutex: a log handler may take its time, or raise
            from bus.incidents import Incident, Incidents
            self.met_death = False
            if self.bells is not None:
                Incidents(self.bells.control).note(
                    Incident.LOCK_REPAIRED, "%s: a process died under its lock; counted again",
                    self.path)
        return 0

    cdef void wake(self) noexcept:
        """Something came back: whoever has nothing to do looks."""
        if self.bells is not None:
            bus_wake(&self.acks.sleepers, &self.bells.bells)

    # ---- a member's part

    def attach(self, uint64_t generation, int reader):
        """Before the first claim; `reader` is the client's place among the partition's readers, or
        -1. What an earlier client of the slot had comes back: who has its slot now is the proof."""
        cdef bus_claimant *claimant = &self.acks.claimants[self.client]
        self.take(ACKS_TIMEOUT_NS)
        if claimant.generation != 0 and claimant.generation != generation:
            bus_acks_take_back(self.acks, self.client, 1)
        if self.acks.claimants_high <= <uint32_t>self.client:
            self.acks.claimants_high = self.client + 1
        claimant.reader = reader + 1
        claimant.generation = generation
        self.give()
        self.wake()

    def detach(self):
        """What this member still has comes back at once. How many records that were."""
        cdef uint64_t count
        self.take(ACKS_TIMEOUT_NS)
        count = bus_acks_take_back(self.acks, self.client, 0)
        self.give()
        if count:
            self.wake()
        return count

    cdef Py_ssize_t claim(self, uint64_t end, Py_ssize_t most, bint running,
                          uint64_t *offsets) except -1:
        cdef Py_ssize_t found
        self.take(ACKS_TIMEOUT_NS)
        found = bus_acks_claim(self.acks, self.client,
                               BUS_ACK_RUNNING if running else BUS_ACK_CLAIMED, end, most,
                               bus_now_ns(), offsets)
        self.give()
        return found

    cdef Py_ssize_t claim_keyed(self, const uint16_t *lanes, uint64_t start, uint64_t known,
                                Py_ssize_t most, bint running, uint64_t *offsets) except -1:
        """As claim, of a keyed group: the lanes of `known` records from `start` on are those."""
        cdef Py_ssize_t found
        self.take(ACKS_TIMEOUT_NS)
        if <Py_ssize_t>self.acks.ready < most and start <= self.acks.next:
            bus_acks_admit(self.acks, start, lanes, known)
        found = bus_acks_claim(self.acks, self.client,
                               BUS_ACK_RUNNING if running else BUS_ACK_CLAIMED, 0, most,
                               bus_now_ns(), offsets)
        self.give()
        return found

    cdef uint16_t parked(self, uint16_t near, uint64_t *start, uint64_t *to) except? 0:
        cdef uint16_t lane
        self.take(ACKS_TIMEOUT_NS)
        lane = bus_acks_parked(self.acks, near, start, to)
        self.give()
        return lane

    cdef int unpark(self, uint16_t lane, uint64_t start, uint64_t offset, bint is_one) except -1:
        self.take(ACKS_TIMEOUT_NS)
        bus_acks_unpark(self.acks, lane, start, offset, is_one)
        self.give()
        return 0

    cdef bint settle(self, uint64_t offset, bus_ack_state state, bus_ack_count cause,
                     int64_t due_ns) except -1:
        """False if this client does not have that record."""
        cdef bint known, more
        self.take(ACKS_TIMEOUT_NS)
        known = bus_acks_settle(self.acks, self.client, offset, state, cause, due_ns)
        more = self.acks.ready or self.acks.lanes_ready
        self.give()
        if state == BUS_ACK_READY or state == BUS_ACK_DELAYED or (
                more and bus_acks_keyed(self.acks)): # the next one of its lane has its turn
            self.wake()
        return known

    cdef int jump(self, uint64_t to) except -1:
        self.take(ACKS_TIMEOUT_NS)
        bus_acks_jump(self.acks, to)
        self.give()
        return 0

    cdef int64_t next_due(self) noexcept:
        """When somebody who sleeps should look again, even if nobody rings."""
        cdef int64_t due = <int64_t>bus_load_relaxed(<uint64_t *>&self.acks.next_due_ns)
        if bus_load32_relaxed(&self.acks.unbegun):
            due = min(due, bus_now_ns() + BUS_ACK_STEAL_NS)
        return due

    def attempts(self, uint64_t offset):
        """What was counted of a record that is not done: (deliveries, failure, timeout, crash,
        oom), or None."""
        cdef bus_ack *ack
        cdef tuple counts = None
        self.take(ACKS_TIMEOUT_NS)
        ack = bus_acks_find(self.acks, offset)
        if ack != NULL:
            counts = (ack.counts[0], ack.counts[1], ack.counts[2], ack.counts[3], ack.counts[4])
        self.give()
        return counts

    # ---- what anyone may look at

    @property
    def low(self):
        """All records below are done: what the group has committed."""
        return bus_acks_low(self.acks)

    def held_by(self, int client):
        """How many records a client slot has."""
        return bus_load32_relaxed(&self.acks.claimants[client].held)

    def claimants(self):
        """(client slot, generation) of all who have had records and have not left."""
        cdef uint32_t i
        cdef uint32_t high = min(bus_load32_relaxed(&self.acks.claimants_high),
                                 <uint32_t>BUS_CLIENTS)
        return [(i, generation) for i in range(high)
                if (generation := bus_load_acquire(&self.acks.claimants[i].generation))]

    def figures(self):
        """Counters and sizes, for people."""
        return {"low": self.low, "next": bus_load_acquire(&self.acks.next),
                "ready": self.acks.ready, "delayed": self.acks.delayed,
                "overtaken": self.acks.overtaken_count, "done": self.acks.done,
                "dead": self.acks.dead, "returned": self.acks.returned,
                "reaped": self.acks.reaped, "stolen": self.acks.stolen,
                "reserved": self.acks.unbegun, "waiting": self.acks.waiting,
                "parked": self.parked_lanes()}

    cdef int parked_lanes(self) noexcept:
        """Lanes of which some records wait in the log alone."""
        cdef int i, found = 0
        if bus_acks_keyed(self.acks):
            for i in range(BUS_ACK_LANES):
                found += 0 < bus_load_relaxed(&self.acks.lanes[i].parked) <= self.acks.base
        return found

    # ---- the broker's part

    def reap(self, int client, uint64_t generation, wait_ms):
        """Takes back what a client had that is proven dead. How many records that were."""
        cdef uint64_t count = 0
        if bus_load_acquire(&self.acks.claimants[client].generation) != generation:
            if bus_lock_is_free(self.mutex) or bus_lock_owner(self.mutex):
                return 0
        self.take(<int64_t>(wait_ms * MS))
        if self.acks.claimants[client].generation == generation:
            count = bus_acks_take_back(self.acks, client, 1)
        self.give()
        self.wake()
        return count

    def mark_deleted(self, wait_ms):
        """Nobody claims or acknowledges any more."""
        self.take(<int64_t>(wait_ms * MS))
        bus_store32_release(&self.acks.flags, self.acks.flags | BUS_ACK_DELETED)
        self.give()
        self.wake()

    def snapshot(self, wait_ms):
        """What a restart must know: Acknowledged(base, next, done, left, parked).

        done: [first, end) ranges that are done between base and next. left: Claimed of each record
        that is not done and of which something is to be kept: older than base, counted, or delayed.
        parked: (lane, offset) of those of a keyed group's lanes that wait in the log from there on.
        """
        cdef bus_acks *copy = <bus_acks *>calloc(1, sizeof(bus_acks))
        if copy == NULL:
            raise MemoryError
        try:
            self.take(<int64_t>(wait_ms * MS))
            memcpy(copy, self.acks, sizeof(bus_acks)) # members wait for no more than that
            self.give()
            if not bus_acks_sound(copy):
                raise _errors.CorruptSegmentError(f"{self.path} was overwritten just now")
            return acknowledged(copy)
        finally:
            free(copy)

    def restore(self, uint64_t base, uint64_t after, done, left, parked=()):
        """Fills a table that nobody else can see yet with what a snapshot said.

        A keyed group's keys must be looked at again: its slots are only kept for that, behind
        `next`. Raises ValueError if the values contradict each other.
        """
        refill(self, base, after, done, left, parked)
