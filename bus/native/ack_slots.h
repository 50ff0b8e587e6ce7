/* ack_slots.h: one slot of an ack table, and its bits; for acks*.c and ack_lanes.c alone. */
#ifndef BUS_ACK_SLOTS_H
#define BUS_ACK_SLOTS_H

#include "acks.h"

#define MASK (BUS_ACK_WINDOW - 1)
#define NEVER INT64_MAX

static inline void put(bus_ack *ack, enum bus_ack_state state, uint32_t owner) {
    uint64_t lane = bus_load_relaxed(&ack->word) & (uint64_t)UINT16_MAX << 16;
    bus_store_release(&ack->word, (uint64_t)owner << 32 | lane | state);
}

static inline int is_final(const bus_ack *ack) {
    return bus_ack_state_of(ack) == BUS_ACK_DONE || bus_ack_state_of(ack) == BUS_ACK_DEAD;
}
static inline int is_held(const bus_ack *ack) {
    return bus_ack_state_of(ack) == BUS_ACK_CLAIMED || bus_ack_state_of(ack) == BUS_ACK_RUNNING;
}
static inline int is_held_by(const bus_ack *ack, int client) {
    return is_held(ack) && bus_ack_owner(ack) == (uint32_t)client + 1;
}

static inline int in_ring(const bus_acks *acks, const bus_ack *ack) {
    return ack >= acks->ring && ack < acks->ring + BUS_ACK_WINDOW;
}

/* Its place among the bits. Not by its offset: that is a word that anybody may have written. */
static inline uint64_t slot_of(const bus_acks *acks, const bus_ack *ack) {
    return (uint64_t)(ack - acks->ring);
}

static inline void count(bus_ack *ack, enum bus_ack_count what) {
    if (ack->counts[what] < UINT8_MAX) ack->counts[what]++;
}

/* It was given to somebody who has not begun with it. */
static inline void uncount(bus_ack *ack) {
    if (ack->counts[BUS_ACK_DELIVERIES]) ack->counts[BUS_ACK_DELIVERIES]--;
}

/* Words that are looked at without the mutex. */
static inline void set(uint32_t *word, uint32_t value) { bus_store32_relaxed(word, value); }
static inline void set_due(bus_acks *acks, int64_t due_ns) {
    bus_store_relaxed((uint64_t *)&acks->next_due_ns, (uint64_t)due_ns);
}

static inline void set_bit(uint64_t *bits, uint64_t slot) {
    bits[slot / 64] |= (uint64_t)1 << slot % 64;
}
static inline void clear_bit(uint64_t *bits, uint64_t slot) {
    bits[slot / 64] &= ~((uint64_t)1 << slot % 64);
}

static inline void come_back(bus_acks *acks, bus_ack *ack) {
    put(ack, BUS_ACK_READY, 0);
    set(&acks->ready, acks->ready + 1);
    if (in_ring(acks, ack)) set_bit(acks->ready_bits, slot_of(acks, ack));
}

static inline void put_off(bus_acks *acks, bus_ack *ack, int64_t due_ns) {
    ack->due_ns = due_ns;
    put(ack, BUS_ACK_DELAYED, 0);
    acks->delayed++;
    if (in_ring(acks, ack)) set_bit(acks->delayed_bits, slot_of(acks, ack));
    if (due_ns < acks->next_due_ns) set_due(acks, due_ns);
}

/* The ring begins with a record that is not done, or is empty. */
void bus_acks_advance(bus_acks *acks);
/* Makes room for one more record in a full ring; 0 if there is none. */
int bus_acks_overtake(bus_acks *acks);

/* ---- ack_lanes.c */

static inline bus_lane *lane_at(bus_acks *acks, uint16_t lane) { return &acks->lanes[lane - 1]; }

static inline int is_parked(const bus_acks *acks, const bus_lane *lane) {
    return lane->parked && lane->parked - 1 < acks->base;
}

/* The record of a lane that was out is done: the next one has its turn. */
void bus_lane_go_on(bus_acks *acks, uint16_t lane);
/* The oldest record of a full ring waits: from now on, in the log alone. */
void bus_lane_park(bus_acks *acks, bus_ack *ack);
/* The oldest record that is parked, or `low` if that is older. */
uint64_t bus_lanes_lowest(const bus_acks *acks, uint64_t low);
/* For a mending: nothing is counted yet; one more record is there; all are. */
void bus_lanes_forget(bus_acks *acks);
void bus_lanes_recount(bus_acks *acks, bus_ack *ack);
void bus_lanes_mend(bus_acks *acks);

#endif
