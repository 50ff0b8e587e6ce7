/* ack_slots.h: one slot of an ack table, and its bits; for acks.c and acks_mend.c alone. */
#ifndef BUS_ACK_SLOTS_H
#define BUS_ACK_SLOTS_H

#include "acks.h"

#define MASK (BUS_ACK_WINDOW - 1)
#define NEVER INT64_MAX

static inline void put(bus_ack *ack, enum bus_ack_state state, uint32_t owner) {
    bus_store_release(&ack->word, (uint64_t)owner << 32 | state);
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

/* The ring begins with a record that is not done, or is empty. */
void bus_acks_advance(bus_acks *acks);

#endif
