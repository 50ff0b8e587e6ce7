/* ack_lanes.c: the order of keys. A lane is what some keys have in common: one of its records is
 * out at most, and the next ones wait, the oldest first.
 *
 * They wait in the ring as long as that has room. What is older than the ring waits in the log
 * alone: `parked` says from where on, and it is the one word here that no slot says again. All else
 * of a lane is a cache. So a key that is stuck for ever costs one place, whatever comes behind it.
 */
#include <string.h>

#include "ack_slots.h"
#include "crc32c.h"

uint16_t bus_lane_of(const void *key, uint64_t bytes) {
    uint32_t mixed = bus_crc32c(0, key, bytes) * 0x9e3779b1u; /* keys differ in few bits */
    return (uint16_t)(1 + (uint64_t)mixed * BUS_ACK_LANES / ((uint64_t)1 << 32));
}

/* ------------------------------------------------------------------------------- waiting */

static void wait_behind(bus_acks *acks, bus_lane *lane, bus_ack *ack) {
    ack->due_ns = 0;
    if (lane->last) acks->ring[(lane->last - 1) & MASK].due_ns = (int64_t)ack->offset + 1;
    else lane->first = ack->offset + 1;
    lane->last = ack->offset + 1;
    set(&acks->waiting, acks->waiting + 1);
}

static uint16_t number_of(const bus_acks *acks, const bus_lane *lane) {
    return (uint16_t)(lane - acks->lanes + 1);
}

/* The oldest of those that wait in the ring does so no longer: NULL if it is none of them. */
static bus_ack *first_waiting(bus_acks *acks, bus_lane *lane) {
    uint64_t offset = lane->first - 1;
    bus_ack *ack = &acks->ring[offset & MASK];
    if (ack->offset != offset || bus_ack_state_of(ack) != BUS_ACK_WAITING ||
        bus_ack_lane(ack) != number_of(acks, lane))
        return NULL;
    lane->first = (uint64_t)ack->due_ns;
    if (!lane->first) lane->last = 0;
    if (acks->waiting) set(&acks->waiting, acks->waiting - 1);
    return ack;
}

/* Nothing of the lane is out: 0 if what it says of itself is wrong. */
static int take_turn(bus_acks *acks, bus_lane *lane) {
    if (is_parked(acks, lane)) {
        set(&acks->lanes_ready, acks->lanes_ready + 1);
        return 1;
    }
    if (!lane->first) return 1;
    bus_ack *ack = first_waiting(acks, lane);
    if (ack == NULL) return 0;
    lane->out++;
    come_back(acks, ack);
    return 1;
}

void bus_lane_go_on(bus_acks *acks, uint16_t number) {
    bus_lane *lane = lane_at(acks, number);
    if (lane->out) lane->out--;
    if (lane->out == 0 && !take_turn(acks, lane)) bus_acks_mend(acks); /* somebody wrote there */
}

/* ------------------------------------------------------------------------------- new ones */

static int is_busy(const bus_acks *acks, const bus_lane *lane) {
    return lane->out || lane->first || is_parked(acks, lane);
}

/* The slot of the next record. What a restart has left of it stays. */
static bus_ack *next_slot(bus_acks *acks, int64_t *due_ns) {
    bus_ack *ack = &acks->ring[acks->next & MASK];
    *due_ns = 0;
    if (acks->next < acks->kept && ack->offset == acks->next) {
        if (bus_ack_state_of(ack) == BUS_ACK_KEPT) *due_ns = ack->due_ns;
        return ack;
    }
    bus_store_release(&ack->word, BUS_ACK_NONE);
    ack->offset = acks->next;
    memset(ack->counts, 0, sizeof ack->counts);
    return ack;
}

static void admit_one(bus_acks *acks, uint16_t number) {
    int64_t due_ns;
    bus_ack *ack = next_slot(acks, &due_ns);
    bus_lane *lane = number && number <= BUS_ACK_LANES ? lane_at(acks, number) : NULL;
    uint64_t bits = lane ? (uint64_t)number << 16 : 0;
    enum bus_ack_state state = due_ns ? BUS_ACK_DELAYED : BUS_ACK_READY;
    if (lane && is_busy(acks, lane)) state = BUS_ACK_WAITING;
    if (number == BUS_LANE_GAP || is_final(ack)) state = BUS_ACK_DONE;
    bus_store_release(&ack->word, bits | state);
    bus_store_release(&acks->next, acks->next + 1); /* from here on the slot counts */
    if (state == BUS_ACK_DONE) return;
    if (state == BUS_ACK_WAITING) {
        wait_behind(acks, lane, ack);
        return;
    }
    if (lane) lane->out++;
    if (state == BUS_ACK_DELAYED) put_off(acks, ack, due_ns);
    else come_back(acks, ack);
}

uint64_t bus_acks_admit(bus_acks *acks, uint64_t from, const uint16_t *lanes, uint64_t count) {
    uint64_t before = acks->next;
    while (acks->next - from < count) {
        if (acks->next - acks->base == BUS_ACK_WINDOW && !bus_acks_overtake(acks)) break;
        admit_one(acks, lanes[acks->next - from]);
    }
    if (acks->next != before) bus_acks_advance(acks);
    return acks->next - before;
}

/* --------------------------------------------------------------------------------- parked */

static void mark_parked(bus_acks *acks, const bus_lane *lane) {
    set_bit(acks->parked_bits, number_of(acks, lane) - 1u);
}

/* What is not below `base` is not parked, and never to be taken for that when `base` has moved. */
static void park_from(bus_acks *acks, bus_lane *lane, uint64_t offset) {
    bus_store_release(&lane->parked, offset < acks->base ? offset + 1 : 0);
}

void bus_lane_park(bus_acks *acks, bus_ack *ack) {
    bus_lane *lane = lane_at(acks, bus_ack_lane(ack));
    uint64_t offset = acks->base;
    int was_parked = is_parked(acks, lane);
    int is_first = lane->first == offset + 1 && first_waiting(acks, lane);
    /* It counts from the store of `base` on: until then it is not below it. */
    if (!was_parked) bus_store_release(&lane->parked, offset + 1);
    bus_store_release(&acks->base, offset + 1);
    mark_parked(acks, lane);
    if (!is_first || (lane->out == 0 && !was_parked)) bus_acks_mend(acks); /* overwritten */
}

uint64_t bus_lanes_lowest(const bus_acks *acks, uint64_t low) {
    for (uint64_t word = 0; word < BUS_ACK_LANES / 64; word++)
        for (uint64_t bits = acks->parked_bits[word]; bits; bits &= bits - 1) {
            const bus_lane *lane = &acks->lanes[word * 64 + (uint64_t)__builtin_ctzll(bits)];
            if (is_parked(acks, lane) && lane->parked - 1 < low) low = lane->parked - 1;
        }
    return low;
}

uint16_t bus_acks_parked(const bus_acks *acks, uint16_t start, uint64_t *from, uint64_t *to) {
    for (uint32_t i = 0; i < BUS_ACK_LANES; i++) {
        uint32_t at = (start + i) % BUS_ACK_LANES;
        if (acks->parked_bits[at / 64] == 0) i += 63 - at % 64; /* the rest of the word as well */
        const bus_lane *lane = &acks->lanes[at];
        if (lane->out || !is_parked(acks, lane)) continue;
        *from = lane->parked - 1;
        *to = acks->base;
        return (uint16_t)(at + 1);
    }
    return 0;
}

static bus_ack *free_place(bus_acks *acks) {
    if (acks->overtaken_count >= BUS_ACK_OVERTAKEN) return NULL;
    for (uint64_t i = 0; i < BUS_ACK_OVERTAKEN; i++)
        if (bus_ack_state_of(&acks->overtaken[i]) == BUS_ACK_NONE) return &acks->overtaken[i];
    return NULL;
}

/* First the record, then the place behind it: in between it is both, and mended. */
static int bring_back(bus_acks *acks, bus_lane *lane, uint64_t offset) {
    bus_ack *ack = free_place(acks);
    if (ack == NULL) return 0;
    ack->offset = offset;
    memset(ack->counts, 0, sizeof ack->counts);
    bus_store_release(&ack->word, (uint64_t)number_of(acks, lane) << 16 | BUS_ACK_READY);
    set(&acks->overtaken_count, acks->overtaken_count + 1);
    set(&acks->ready, acks->ready + 1);
    lane->out++;
    return 1;
}

int bus_acks_unpark(bus_acks *acks, uint16_t number, uint64_t from, uint64_t offset, int is_one) {
    bus_lane *lane = lane_at(acks, number);
    if (lane->out || !is_parked(acks, lane) || lane->parked - 1 != from || offset < from) return 0;
    if (is_one && (offset >= acks->base || !bring_back(acks, lane, offset))) return 0;
    park_from(acks, lane, is_one ? offset + 1 : offset);
    if (!lane->parked) clear_bit(acks->parked_bits, number - 1u);
    if (is_one || !lane->parked) {
        if (acks->lanes_ready) set(&acks->lanes_ready, acks->lanes_ready - 1);
        if (!is_one && !take_turn(acks, lane)) bus_acks_mend(acks);
    }
    bus_acks_advance(acks);
    return 1;
}

/* -------------------------------------------------------------------------------- mending */

void bus_lanes_forget(bus_acks *acks) {
    set(&acks->waiting, 0);
    set(&acks->lanes_ready, 0);
    memset(acks->parked_bits, 0, sizeof acks->parked_bits);
    for (uint32_t i = 0; i < BUS_ACK_LANES; i++) {
        bus_lane *lane = &acks->lanes[i];
        lane->first = lane->last = 0;
        lane->out = 0;
        if (lane->parked) park_from(acks, lane, lane->parked - 1); /* a death in bus_lane_park */
    }
}

/* Overtaken ones come first, then the ring from `base` on: the oldest of a lane before the next. */
void bus_lanes_recount(bus_acks *acks, bus_ack *ack) {
    bus_lane *lane = lane_at(acks, bus_ack_lane(ack));
    if (is_final(ack)) return;
    if (!in_ring(acks, ack) && lane->parked && lane->parked - 1 <= ack->offset)
        park_from(acks, lane, ack->offset + 1); /* a death in bus_acks_unpark */
    if (bus_ack_state_of(ack) == BUS_ACK_READY && in_ring(acks, ack) &&
        (lane->out || lane->first || is_parked(acks, lane)))
        put(ack, BUS_ACK_WAITING, 0); /* it was lost */
    if (bus_ack_state_of(ack) == BUS_ACK_WAITING) wait_behind(acks, lane, ack);
    else lane->out++;
}

void bus_lanes_mend(bus_acks *acks) {
    for (uint32_t i = 0; i < BUS_ACK_LANES; i++) {
        bus_lane *lane = &acks->lanes[i];
        if (is_parked(acks, lane)) mark_parked(acks, lane);
        if (lane->out == 0) take_turn(acks, lane);
    }
}
