# What of an ack table outlives a restart: taken from it, and put into a new one.

cdef int refill(AckTable table, uint64_t base, uint64_t after, done, left, parked) except -1:
    """See AckTable.restore."""
    cdef bus_acks *acks = table.acks
    cdef uint64_t offset, first, end
    cdef bus_ack_state back = BUS_ACK_KEPT if table.keyed else BUS_ACK_READY
    cdef int overtaken = 0
    if not base <= after <= base + BUS_ACK_WINDOW:
        raise ValueError(f"{base} to {after} is no window")
    for offset in range(base, after):
        acks.ring[offset % BUS_ACK_WINDOW].offset = offset
        acks.ring[offset % BUS_ACK_WINDOW].word = back
    for first, end in done:
        if not base <= first <= end <= after:
            raise ValueError(f"done {first} to {end} is outside of {base} to {after}")
        for offset in range(first, end):
            acks.ring[offset % BUS_ACK_WINDOW].word = BUS_ACK_DONE
    for one in left:
        offset = one.offset
        if offset >= after or (offset < base and overtaken == BUS_ACK_OVERTAKEN):
            raise ValueError(f"record {offset} is not in {base} to {after}")
        if offset >= base:
            fill_in(&acks.ring[offset % BUS_ACK_WINDOW], one,
                    BUS_ACK_KEPT if table.keyed else BUS_ACK_NONE)
        else:
            fill_in(&acks.overtaken[overtaken], one, BUS_ACK_NONE)
            overtaken += 1
    for lane, offset in parked:
        if not (0 < lane <= BUS_ACK_LANES and offset < base and table.keyed):
            raise ValueError(f"lane {lane} cannot wait from {offset} to {base}")
        acks.lanes[lane - 1].parked = offset + 1
    acks.base = base
    acks.next = base if table.keyed else after
    acks.kept = after
    bus_acks_mend(acks)
    return 0


cdef int fill_in(bus_ack *ack, one, bus_ack_state state) except -1:
    """`state`: BUS_ACK_NONE for what the record says of itself."""
    cdef uint64_t lane = one.lane
    cdef int i
    if state == BUS_ACK_NONE:
        state = BUS_ACK_DELAYED if one.due_ns else BUS_ACK_READY
    ack.offset = one.offset
    ack.due_ns = one.due_ns
    ack.word = state if state == BUS_ACK_KEPT else lane << 16 | state
    for i in range(min(len(one.counts), BUS_ACK_COUNTS)):
        ack.counts[i] = one.counts[i]
    return 0


cdef object acknowledged(const bus_acks *acks):
    """What a table that nobody writes to says."""
    cdef uint64_t offset, first = 0, base = acks.base, after = acks.next
    cdef bint inside = False, is_done
    cdef const bus_ack *ack
    cdef list done = [], left = []
    cdef int i
    if after < acks.kept <= base + BUS_ACK_WINDOW:
        after = acks.kept
    for i in range(BUS_ACK_OVERTAKEN):
        if bus_ack_state_of(&acks.overtaken[i]) != BUS_ACK_NONE:
            left.append(left_of(&acks.overtaken[i]))
    for offset in range(base, after):
        ack = &acks.ring[offset % BUS_ACK_WINDOW]
        is_done = is_final(ack) and ack.offset == offset
        if is_done != inside:
            if inside:
                done.append((first, offset))
            first = offset
            inside = is_done
        if not is_done and ack.offset == offset and (
                delay_of(ack) or any_count(ack)):
            left.append(left_of(ack))
    if inside:
        done.append((first, after))
    return Acknowledged(base, after, done, left, parked_of(acks))


cdef bint is_final(const bus_ack *ack) noexcept:
    return bus_ack_state_of(ack) == BUS_ACK_DONE or bus_ack_state_of(ack) == BUS_ACK_DEAD


cdef list parked_of(const bus_acks *acks):
    cdef int i
    if not bus_acks_keyed(acks):
        return []
    return [(i + 1, acks.lanes[i].parked - 1) for i in range(BUS_ACK_LANES)
            if 0 < acks.lanes[i].parked <= acks.base]


cdef int64_t delay_of(const bus_ack *ack) noexcept:
    """When it comes back; 0: it is not delayed."""
    cdef bus_ack_state state = bus_ack_state_of(ack)
    return ack.due_ns if state == BUS_ACK_DELAYED or state == BUS_ACK_KEPT else 0


cdef bint any_count(const bus_ack *ack) noexcept:
    cdef int i
    for i in range(BUS_ACK_COUNTS):
        if ack.counts[i]:
            return True
    return False


cdef object left_of(const bus_ack *ack):
    cdef bus_ack_state state = bus_ack_state_of(ack)
    return Claimed(ack.offset, <int>bus_ack_owner(ack) - 1, state == BUS_ACK_RUNNING, delay_of(ack),
                   [ack.counts[i] for i in range(BUS_ACK_COUNTS)], bus_ack_lane(ack))
