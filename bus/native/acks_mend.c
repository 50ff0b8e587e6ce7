/* How an ack table begins, and how it is made whole from its slots when a holder has died. */
#include "acks.h"

#include <string.h>

#include "ack_slots.h"

void bus_acks_begin(bus_acks *acks, uint64_t offset) {
    acks->low = acks->base = acks->next = offset;
    acks->next_due_ns = NEVER;
}

/* In no state that there is, or in the hands of nobody who could be found dead. */
static int is_lost(const bus_acks *acks, const bus_ack *ack) {
    uint32_t owner = bus_ack_owner(ack);
    if (bus_ack_state_of(ack) == BUS_ACK_WAITING)
        return !bus_acks_keyed(acks) || !in_ring(acks, ack) || !bus_ack_lane(ack);
    if (bus_ack_state_of(ack) > BUS_ACK_DEAD) return 1;
    return is_held(ack) &&
           (owner == 0 || owner > BUS_CLIENTS || acks->claimants[owner - 1].generation == 0);
}

static void recount(bus_acks *acks, bus_ack *ack) {
    if (is_lost(acks, ack)) put(ack, BUS_ACK_READY, 0);
    if (bus_acks_keyed(acks) && bus_ack_lane(ack)) bus_lanes_recount(acks, ack);
    switch (bus_ack_state_of(ack)) {
    case BUS_ACK_READY:
        set(&acks->ready, acks->ready + 1);
        if (in_ring(acks, ack)) set_bit(acks->ready_bits, slot_of(acks, ack));
        return;
    case BUS_ACK_DELAYED:
        acks->delayed++;
        if (in_ring(acks, ack)) set_bit(acks->delayed_bits, slot_of(acks, ack));
        if (ack->due_ns < acks->next_due_ns) set_due(acks, ack->due_ns);
        return;
    case BUS_ACK_CLAIMED:
        set(&acks->unbegun, acks->unbegun + 1); /* fall through */
    case BUS_ACK_RUNNING: acks->claimants[bus_ack_owner(ack) - 1].held++; return;
    default: return;
    }
}

static void forget_counts(bus_acks *acks) {
    set(&acks->ready, 0);
    set(&acks->unbegun, 0);
    set(&acks->overtaken_count, 0);
    acks->delayed = 0;
    set_due(acks, NEVER);
    memset(acks->ready_bits, 0, sizeof acks->ready_bits);
    memset(acks->delayed_bits, 0, sizeof acks->delayed_bits);
    if (bus_acks_keyed(acks)) bus_lanes_forget(acks);
    for (uint32_t i = 0; i < BUS_CLIENTS; i++) {
        acks->claimants[i].held = 0;
        if (acks->claimants[i].generation && acks->claimants_high <= i)
            set(&acks->claimants_high, i + 1);
    }
}

void bus_acks_mend(bus_acks *acks) {
    if (acks->base > acks->next) bus_store_release(&acks->next, acks->base); /* in a jump */
    uint64_t base = acks->base, end = acks->next;
    if (end - base > BUS_ACK_WINDOW) return; /* not sound, and not by a death */
    forget_counts(acks);
    for (uint64_t i = 0; i < BUS_ACK_OVERTAKEN; i++) {
        bus_ack *ack = &acks->overtaken[i];
        if (bus_ack_state_of(ack) == BUS_ACK_NONE) continue;
        if (is_final(ack) || ack->offset >= base) { /* it was not overtaken yet */
            put(ack, BUS_ACK_NONE, 0);
            continue;
        }
        set(&acks->overtaken_count, acks->overtaken_count + 1);
        recount(acks, ack);
    }
    for (uint64_t offset = base; offset != end; offset++) {
        bus_ack *ack = &acks->ring[offset & MASK];
        if (ack->offset != offset || bus_ack_state_of(ack) == BUS_ACK_NONE) { /* rather twice */
            ack->offset = offset;
            bus_store_release(&ack->word, BUS_ACK_READY);
        }
        recount(acks, ack);
    }
    if (bus_acks_keyed(acks)) bus_lanes_mend(acks);
    bus_acks_advance(acks);
}
