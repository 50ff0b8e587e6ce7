/* recount.h: counts everything in an ack table that caches say, and names the first that lies. */
#ifndef RECOUNT_H
#define RECOUNT_H

#include <stdlib.h>

#include "acks.h"

typedef struct {
    uint64_t ready, delayed, overtaken, unbegun, not_done, waiting, lanes_ready;
    uint64_t out[BUS_ACK_LANES], next_waiting[BUS_ACK_LANES];
    uint64_t passed; /* records that are out although an older one of their lane is, or waits */
    uint64_t held[BUS_CLIENTS + 1]; /* by owner; 0: nobody */
    uint64_t low;
    int64_t due_ns;
} recounted;

static inline int recount_bit(const uint64_t *bits, uint64_t slot) {
    return (int)(bits[slot / 64] >> slot % 64 & 1);
}

static inline void recount_one(recounted *found, const bus_ack *ack, uint64_t offset) {
    uint32_t owner = bus_ack_owner(ack);
    if (offset < found->low) found->low = offset;
    found->not_done++;
    switch (bus_ack_state_of(ack)) {
    case BUS_ACK_READY: found->ready++; return;
    case BUS_ACK_DELAYED:
        found->delayed++;
        if (ack->due_ns < found->due_ns) found->due_ns = ack->due_ns;
        return;
    case BUS_ACK_CLAIMED: found->unbegun++; break;
    case BUS_ACK_WAITING: found->waiting++; return;
    default: break;
    }
    found->held[owner <= BUS_CLIENTS ? owner : 0]++;
}

static inline int recount_parked(const bus_acks *acks, const bus_lane *lane) {
    return lane->parked && lane->parked - 1 < acks->base;
}

/* One more of its lane, the oldest first: those that wait must be chained in that order. */
static inline const char *recount_lane(const bus_acks *acks, recounted *found, const bus_ack *ack) {
    uint16_t at = (uint16_t)(bus_ack_lane(ack) - 1);
    if (bus_ack_lane(ack) == 0) return bus_ack_state_of(ack) == BUS_ACK_WAITING ? "no lane" : NULL;
    const bus_lane *lane = &acks->lanes[at];
    if (bus_ack_state_of(ack) != BUS_ACK_WAITING) {
        int waits = found->next_waiting[at] != lane->first;
        if (ack->offset >= acks->base) waits |= recount_parked(acks, lane);
        else waits |= recount_parked(acks, lane) && lane->parked - 1 <= ack->offset;
        if (found->out[at]++ || waits) found->passed++;
        return NULL;
    }
    if (found->next_waiting[at] != ack->offset + 1) return "a lane has lost one that waits";
    found->next_waiting[at] = (uint64_t)ack->due_ns;
    if (ack->due_ns == 0 && lane->last != ack->offset + 1) return "the last one that waits";
    return NULL;
}

static inline const char *recount_lanes(const bus_acks *acks, recounted *found) {
    for (uint32_t i = 0; i < BUS_ACK_LANES; i++) {
        const bus_lane *lane = &acks->lanes[i];
        int parked = recount_parked(acks, lane);
        if (found->next_waiting[i]) return "a lane knows of one that does not wait";
        if (!lane->first && lane->last) return "the last one of none";
        if (lane->out != found->out[i]) return "out";
        if (lane->parked && !parked) return "a lane would be parked later";
        if (recount_bit(acks->parked_bits, i) != parked) return "a parked bit";
        if (!lane->out && !parked && lane->first) return "a lane is forgotten";
        found->lanes_ready += parked && !lane->out;
        if (parked && lane->parked - 1 < found->low) found->low = lane->parked - 1;
    }
    return NULL;
}

static inline int recount_is_final(const bus_ack *ack) {
    return bus_ack_state_of(ack) == BUS_ACK_DONE || bus_ack_state_of(ack) == BUS_ACK_DEAD;
}

/* The slots themselves: NULL, or what is wrong with one of them. */
static inline const char *recount_slots(const bus_acks *acks, recounted *found) {
    for (uint64_t i = 0; i < BUS_ACK_OVERTAKEN; i++) {
        const bus_ack *ack = &acks->overtaken[i];
        if (bus_ack_state_of(ack) == BUS_ACK_NONE) continue;
        if (recount_is_final(ack)) return "an overtaken record is final, and has a place";
        if (ack->offset >= acks->base) return "an overtaken record is in the ring, too";
        found->overtaken++;
        recount_one(found, ack, ack->offset);
        const char *wrong = bus_acks_keyed(acks) ? recount_lane(acks, found, ack) : NULL;
        if (wrong) return wrong;
    }
    for (uint64_t offset = acks->base; offset != acks->next; offset++) {
        uint64_t slot = offset % BUS_ACK_WINDOW;
        const bus_ack *ack = &acks->ring[slot];
        enum bus_ack_state state = bus_ack_state_of(ack);
        if (state == BUS_ACK_NONE || state > BUS_ACK_WAITING) return "a slot has no state";
        if (state == BUS_ACK_WAITING && !bus_acks_keyed(acks)) return "a slot waits for nothing";
        if (ack->offset != offset) return "a slot has another's offset";
        if (recount_bit(acks->ready_bits, slot) != (state == BUS_ACK_READY)) return "a ready bit";
        if (recount_bit(acks->delayed_bits, slot) != (state == BUS_ACK_DELAYED))
            return "a delayed bit";
        if (recount_is_final(ack)) continue;
        recount_one(found, ack, offset);
        const char *wrong = bus_acks_keyed(acks) ? recount_lane(acks, found, ack) : NULL;
        if (wrong) return wrong;
    }
    return bus_acks_keyed(acks) ? recount_lanes(acks, found) : NULL;
}

/* NULL, or which cache does not agree with the slots. */
static inline const char *recount(const bus_acks *acks, recounted *found) {
    *found = (recounted){.low = acks->base, .due_ns = INT64_MAX};
    if (!bus_acks_sound(acks)) return "the table is not sound";
    for (uint32_t i = 0; i < BUS_ACK_LANES; i++) found->next_waiting[i] = acks->lanes[i].first;
    const char *wrong = recount_slots(acks, found);
    if (wrong) return wrong;
    if (acks->ready != found->ready) return "ready";
    if (acks->delayed != found->delayed) return "delayed";
    if (acks->unbegun != found->unbegun) return "unbegun";
    if (acks->waiting != found->waiting) return "waiting";
    if (acks->lanes_ready != found->lanes_ready) return "lanes_ready";
    if (acks->overtaken_count != found->overtaken) return "overtaken_count";
    if (acks->next_due_ns > found->due_ns) return "next_due_ns is too late";
    if (acks->low != found->low) return "low";
    if (acks->base < acks->next && recount_is_final(&acks->ring[acks->base % BUS_ACK_WINDOW]))
        return "the ring begins with a record that is final";
    if (found->held[0]) return "a record is in nobody's hands";
    for (uint32_t i = 0; i < BUS_CLIENTS; i++) {
        if (acks->claimants[i].held != found->held[i + 1]) return "held";
        if (found->held[i + 1] && acks->claimants[i].generation == 0) return "held by nobody";
    }
    return NULL;
}

#endif
