#include "acks.h"

#include <string.h>

#include "ack_slots.h"

int bus_acks_sound(const bus_acks *acks) {
    return acks->magic == BUS_MAGIC_ACKS && acks->low <= acks->base &&
           acks->next - acks->base <= BUS_ACK_WINDOW &&
           acks->overtaken_count <= BUS_ACK_OVERTAKEN;
}

/* ------------------------------------------------------------------------ what is not done */

static uint64_t lowest(const bus_acks *acks) {
    uint64_t low = acks->base, left = acks->overtaken_count;
    for (uint64_t i = 0; left && i < BUS_ACK_OVERTAKEN; i++) {
        const bus_ack *ack = &acks->overtaken[i];
        if (bus_ack_state_of(ack) == BUS_ACK_NONE) continue;
        left--;
        if (ack->offset < low) low = ack->offset;
    }
    return bus_acks_keyed(acks) ? bus_lanes_lowest(acks, low) : low;
}

void bus_acks_advance(bus_acks *acks) {
    uint64_t base = acks->base, left = acks->next - base;
    for (; left && left <= BUS_ACK_WINDOW && is_final(&acks->ring[base & MASK]); left--) base++;
    bus_store_release(&acks->base, base);
    bus_store_release(&acks->low, lowest(acks));
}

bus_ack *bus_acks_find(bus_acks *acks, uint64_t offset) {
    if (offset >= acks->next) return NULL;
    if (offset >= acks->base) {
        bus_ack *ack = &acks->ring[offset & MASK];
        return is_final(ack) ? NULL : ack;
    }
    uint64_t left = acks->overtaken_count;
    for (uint64_t i = 0; left && i < BUS_ACK_OVERTAKEN; i++) {
        bus_ack *ack = &acks->overtaken[i];
        if (bus_ack_state_of(ack) == BUS_ACK_NONE) continue;
        if (ack->offset == offset) return ack;
        left--;
    }
    return NULL;
}

/* Moves the oldest record out of the way. */
int bus_acks_overtake(bus_acks *acks) {
    bus_ack *ack = &acks->ring[acks->base & MASK];
    if (bus_ack_state_of(ack) == BUS_ACK_WAITING && bus_ack_lane(ack) && bus_acks_keyed(acks)) {
        bus_lane_park(acks, ack);
        bus_acks_advance(acks);
        return 1;
    }
    if (acks->overtaken_count >= BUS_ACK_OVERTAKEN) return 0;
    for (uint64_t i = 0; i < BUS_ACK_OVERTAKEN; i++) {
        bus_ack *room = &acks->overtaken[i];
        if (bus_ack_state_of(room) != BUS_ACK_NONE) continue;
        room->offset = acks->base;
        room->due_ns = ack->due_ns;
        memcpy(room->counts, ack->counts, sizeof room->counts);
        bus_store_release(&room->word, ack->word);
        set(&acks->overtaken_count, acks->overtaken_count + 1);
        bus_store_release(&acks->base, acks->base + 1); /* before: it counts in the ring alone */
        clear_bit(acks->ready_bits, slot_of(acks, ack));
        clear_bit(acks->delayed_bits, slot_of(acks, ack));
        bus_acks_advance(acks);
        return 1;
    }
    set(&acks->overtaken_count, BUS_ACK_OVERTAKEN); /* it was wrong: nobody tries again for ever */
    return 0;
}

/* -------------------------------------------------------------------------- coming back */

static void look_at_delayed(bus_acks *acks, bus_ack *ack, int64_t now_ns, int64_t *next_ns) {
    if (bus_ack_state_of(ack) != BUS_ACK_DELAYED) return;
    if (ack->due_ns > now_ns) {
        if (ack->due_ns < *next_ns) *next_ns = ack->due_ns;
        return;
    }
    if (in_ring(acks, ack)) clear_bit(acks->delayed_bits, slot_of(acks, ack));
    if (acks->delayed) acks->delayed--;
    come_back(acks, ack);
}

static void wake_delayed(bus_acks *acks, int64_t now_ns) {
    int64_t next_ns = NEVER;
    if (now_ns < acks->next_due_ns) return;
    for (uint64_t i = 0, left = acks->overtaken_count; left && i < BUS_ACK_OVERTAKEN; i++) {
        if (bus_ack_state_of(&acks->overtaken[i]) == BUS_ACK_NONE) continue;
        left--;
        look_at_delayed(acks, &acks->overtaken[i], now_ns, &next_ns);
    }
    for (uint64_t word = 0; word < BUS_ACK_WINDOW / 64; word++)
        for (uint64_t bits = acks->delayed_bits[word]; bits; bits &= bits - 1)
            look_at_delayed(acks, &acks->ring[word * 64 + __builtin_ctzll(bits)], now_ns, &next_ns);
    set_due(acks, next_ns);
}

/* ------------------------------------------------------------------------------- claims */

typedef struct { /* who claims, and how */
    int client;
    enum bus_ack_state state;
    int64_t now_ns;
} taker;

static void give(bus_acks *acks, bus_ack *ack, const taker *to) {
    count(ack, BUS_ACK_DELIVERIES);
    int64_t due_ns = to->state == BUS_ACK_CLAIMED ? to->now_ns + BUS_ACK_STEAL_NS : NEVER;
    put(ack, to->state, to->client + 1);
    bus_store_release((uint64_t *)&ack->due_ns, (uint64_t)due_ns); /* behind: it may be robbed */
    acks->claimants[to->client].held++;
    if (to->state == BUS_ACK_CLAIMED) set(&acks->unbegun, acks->unbegun + 1);
}

/* Before the record's word changes: it is not with its owner any more. */
static void let_go(bus_acks *acks, bus_ack *ack) {
    uint32_t owner = bus_ack_owner(ack);
    if (bus_ack_state_of(ack) == BUS_ACK_CLAIMED && acks->unbegun)
        set(&acks->unbegun, acks->unbegun - 1);
    if (owner && owner <= BUS_CLIENTS && acks->claimants[owner - 1].held)
        acks->claimants[owner - 1].held--;
}

static uint64_t claim_overtaken(bus_acks *acks, const taker *to, uint64_t most,
                                uint64_t *offsets) {
    uint64_t found = 0, left = acks->overtaken_count;
    for (uint64_t i = 0; left && acks->ready && found < most && i < BUS_ACK_OVERTAKEN; i++) {
        bus_ack *ack = &acks->overtaken[i];
        if (bus_ack_state_of(ack) == BUS_ACK_NONE) continue;
        left--;
        if (bus_ack_state_of(ack) != BUS_ACK_READY) continue;
        set(&acks->ready, acks->ready - 1);
        give(acks, ack, to);
        offsets[found++] = ack->offset;
    }
    return found;
}

/* The oldest first: from the slot of `base` on, round the ring. */
static uint64_t claim_returned(bus_acks *acks, const taker *to, uint64_t most,
                               uint64_t *offsets) {
    uint64_t found = 0, words = BUS_ACK_WINDOW / 64, start = acks->base & MASK;
    for (uint64_t i = 0; acks->ready && found < most && i <= words; i++) {
        uint64_t word = (start / 64 + i) % words, mask = UINT64_MAX;
        if (i == 0) mask <<= start % 64;
        if (i == words) mask = ~(mask << start % 64); /* the rest of the first word */
        uint64_t bits = acks->ready_bits[word] & mask;
        for (; bits && found < most; bits &= bits - 1) {
            bus_ack *ack = &acks->ring[word * 64 + __builtin_ctzll(bits)];
            uint64_t behind = (slot_of(acks, ack) - acks->base) & MASK;
            clear_bit(acks->ready_bits, slot_of(acks, ack));
            if (bus_ack_state_of(ack) != BUS_ACK_READY || behind >= acks->next - acks->base)
                continue;
            if (acks->ready) set(&acks->ready, acks->ready - 1);
            give(acks, ack, to);
            offsets[found++] = acks->base + behind;
        }
    }
    return found;
}

static uint64_t claim_fresh(bus_acks *acks, const taker *to, uint64_t end, uint64_t most,
                            uint64_t *offsets) {
    uint64_t found = 0;
    while (found < most && acks->next < end) {
        if (acks->next - acks->base == BUS_ACK_WINDOW && !bus_acks_overtake(acks)) break;
        bus_ack *ack = &acks->ring[acks->next & MASK];
        bus_store_release(&ack->word, BUS_ACK_NONE); /* and without the lane of another record */
        ack->offset = acks->next;
        memset(ack->counts, 0, sizeof ack->counts);
        give(acks, ack, to);
        offsets[found++] = ack->offset;
        bus_store_release(&acks->next, acks->next + 1); /* last: from here on the slot counts */
    }
    return found;
}

/* The newest one: its owner would begin with it last. */
static uint64_t steal(bus_acks *acks, const taker *to, uint64_t *offsets) {
    uint64_t left = acks->unbegun;
    uint64_t offset = acks->next, count = offset - acks->base;
    for (; left && count && count <= BUS_ACK_WINDOW; count--, offset--) {
        bus_ack *ack = &acks->ring[(offset - 1) & MASK];
        if (bus_ack_state_of(ack) != BUS_ACK_CLAIMED) continue;
        left--;
        if (bus_ack_owner(ack) == (uint32_t)to->client + 1 || ack->due_ns > to->now_ns) continue;
        let_go(acks, ack);
        uncount(ack);
        give(acks, ack, to);
        acks->stolen++;
        offsets[0] = offset - 1;
        return 1;
    }
    return 0;
}

uint64_t bus_acks_claim(bus_acks *acks, int client, enum bus_ack_state state, uint64_t end,
                        uint64_t most, int64_t now_ns, uint64_t *offsets) {
    taker to = {client, state, now_ns};
    wake_delayed(acks, now_ns);
    uint64_t found = claim_overtaken(acks, &to, most, offsets);
    found += claim_returned(acks, &to, most - found, offsets + found);
    if (acks->ready && found < most) bus_acks_mend(acks); /* or all would look for it for ever */
    found += claim_fresh(acks, &to, end, most - found, offsets + found);
    return found || most == 0 ? found : steal(acks, &to, offsets);
}

/* -------------------------------------------------------------------- what became of them */

static void finish(bus_acks *acks, bus_ack *ack, uint64_t offset, enum bus_ack_state state) {
    uint16_t lane = bus_ack_lane(ack);
    if (in_ring(acks, ack)) {
        put(ack, state, 0);
    } else {
        put(ack, BUS_ACK_NONE, 0);
        if (acks->overtaken_count) set(&acks->overtaken_count, acks->overtaken_count - 1);
    }
    if (state == BUS_ACK_DONE) acks->done++;
    else acks->dead++;
    if (lane && bus_acks_keyed(acks)) bus_lane_go_on(acks, lane);
    if (offset == acks->base || offset == acks->low) bus_acks_advance(acks);
}

int bus_acks_settle(bus_acks *acks, int client, uint64_t offset, enum bus_ack_state state,
                    enum bus_ack_count cause, int64_t due_ns) {
    bus_ack *ack = bus_acks_find(acks, offset);
    if (ack == NULL || !is_held_by(ack, client)) return 0;
    if (state == BUS_ACK_RUNNING) {
        if (bus_ack_state_of(ack) == BUS_ACK_CLAIMED && acks->unbegun)
            set(&acks->unbegun, acks->unbegun - 1);
        ack->due_ns = due_ns;
        put(ack, state, client + 1);
        return 1;
    }
    let_go(acks, ack);
    if (state >= BUS_ACK_DONE) {
        finish(acks, ack, offset, state);
        return 1;
    }
    acks->returned++;
    int begun = cause != BUS_ACK_DELIVERIES || bus_ack_state_of(ack) == BUS_ACK_RUNNING;
    if (cause != BUS_ACK_DELIVERIES) count(ack, cause);
    if (state == BUS_ACK_DELAYED) put_off(acks, ack, due_ns);
    else come_back(acks, ack);
    if (!begun) uncount(ack); /* behind the word: a death in between leaves one too many */
    return 1;
}

void bus_acks_jump(bus_acks *acks, uint64_t to) {
    if (to <= acks->next) return;
    if (to - acks->next <= BUS_ACK_WINDOW) {
        while (acks->next < to &&
               (acks->next - acks->base < BUS_ACK_WINDOW || bus_acks_overtake(acks))) {
            bus_ack *ack = &acks->ring[acks->next & MASK];
            ack->offset = acks->next;
            bus_store_release(&ack->word, BUS_ACK_DONE);
            bus_store_release(&acks->next, acks->next + 1);
        }
    } else {
        while (acks->base < acks->next && bus_acks_overtake(acks)) {}
        if (acks->base < acks->next) return; /* the next claim meets the gap again */
        bus_store_release(&acks->base, to); /* first: a base above `next` tells of a death here */
        bus_store_release(&acks->next, to);
    }
    bus_acks_advance(acks);
}

static void take_from(bus_acks *acks, bus_ack *ack, int died) {
    int begun = bus_ack_state_of(ack) == BUS_ACK_RUNNING;
    let_go(acks, ack);
    if (begun && died) count(ack, BUS_ACK_CRASH);
    acks->returned++;
    come_back(acks, ack);
    if (!begun) uncount(ack);
}

static uint64_t take_all(bus_acks *acks, bus_ack *slots, uint64_t count, int client, int died) {
    uint64_t taken = 0;
    for (uint64_t i = 0; i < count; i++) {
        if (!is_held_by(&slots[i], client)) continue;
        take_from(acks, &slots[i], died);
        taken++;
    }
    return taken;
}

uint64_t bus_acks_take_back(bus_acks *acks, int client, int died) {
    uint64_t taken = take_all(acks, acks->overtaken, BUS_ACK_OVERTAKEN, client, died);
    uint64_t count = acks->next - acks->base, start = acks->base & MASK;
    uint64_t first = count < BUS_ACK_WINDOW - start ? count : BUS_ACK_WINDOW - start;
    if (count <= BUS_ACK_WINDOW) {
        taken += take_all(acks, acks->ring + start, first, client, died);
        taken += take_all(acks, acks->ring, count - first, client, died);
    }
    acks->claimants[client].held = 0;
    acks->claimants[client].reader = 0;
    bus_store_release(&acks->claimants[client].generation, 0);
    if (died) acks->reaped += taken;
    return taken;
}

/* Whether one more record fits. */
static int has_room(const bus_acks *acks, uint64_t next) {
    uint64_t base = bus_load_relaxed(&acks->base);
    return next - base < BUS_ACK_WINDOW ||
           bus_load32_relaxed(&acks->overtaken_count) < BUS_ACK_OVERTAKEN ||
           bus_ack_state_of(&acks->ring[base & MASK]) == BUS_ACK_WAITING;
}

int bus_acks_has_more(const bus_acks *acks, uint64_t end, int64_t now_ns) {
    if (bus_load32_relaxed(&acks->ready)) return 1;
    if (now_ns >= (int64_t)bus_load_relaxed((const uint64_t *)&acks->next_due_ns)) return 1;
    if (bus_load32_relaxed(&acks->lanes_ready) &&
        bus_load32_relaxed(&acks->overtaken_count) < BUS_ACK_OVERTAKEN)
        return 1;
    uint64_t next = bus_load_relaxed(&acks->next);
    return next < end && has_room(acks, next);
}
