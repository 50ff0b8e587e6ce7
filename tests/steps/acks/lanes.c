/* lanes.c: where somebody dies in the order of keys. */
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fault.h"
#include "table.h"

enum { FULL = BUS_ACK_WINDOW, LANE = 1 + 2 * 800 }; /* of offsets 2, 7, … */

/* The other one has the first record of each lane, and those without a key are done. */
static void heads_are_out(uint64_t end) {
    static const int others[] = {TABLE_OTHER, TABLE_DEAD};
    table->flags = BUS_ACK_KEYED;
    for (uint64_t to = 60; to <= end; to += 60) {
        for (uint64_t found = table_claim(TABLE_OTHER, to, FULL); found;
             found = table_claim(TABLE_OTHER, to, FULL)) {}
        for (uint64_t offset = to < 60 ? 0 : to - 60; offset < to; offset++)
            if (table_lane(offset) == 0)
                for (int i = 0; i < 2; i++) table_settle(others[i], offset, BUS_ACK_DONE);
    }
}

/* The victim has the first record of the lane. */
static uint64_t hand_over(void) {
    table_settle(TABLE_OTHER, 2, BUS_ACK_READY);
    DEMAND(table_claim(TABLE_VICTIM, 0, 1) == 1);
    return 2;
}

static uint64_t in_a_lane(void) {
    heads_are_out(120);
    return hand_over();
}

static uint64_t in_a_parked_lane(void) {
    heads_are_out(FULL + 300);
    return hand_over();
}

static uint64_t a_parked_lane_is_free(void) {
    in_a_parked_lane();
    table_settle(TABLE_VICTIM, 2, BUS_ACK_DONE);
    return NOTHING;
}

/* All of it is done but what stands in the ring. */
static uint64_t a_parked_lane_is_empty(void) {
    a_parked_lane_is_free();
    bus_lane *lane = &table->lanes[LANE - 1];
    while (lane->parked) {
        table_lock();
        int found = table_look_behind();
        table_unlock();
        DEMAND(found);
        uint64_t offset = UINT64_MAX;
        for (uint64_t i = 0; i < BUS_ACK_OVERTAKEN; i++)
            if (bus_ack_state_of(&table->overtaken[i]) == BUS_ACK_READY)
                offset = table->overtaken[i].offset;
        if (offset == UINT64_MAX || !lane->parked) break;
        DEMAND(table_claim(TABLE_VICTIM, 0, 1) == 1);
        table_settle(TABLE_VICTIM, offset, BUS_ACK_DONE);
    }
    table_lock();
    bus_acks_take_back(table, TABLE_VICTIM, 0);
    table->claimants[TABLE_VICTIM].generation = 1;
    table_unlock();
    return NOTHING;
}

static uint64_t a_full_ring_of_lanes(void) {
    heads_are_out(FULL - 16);
    for (uint64_t to = FULL - 16; to < FULL; to += 4) table_claim(TABLE_OTHER, to + 4, 1);
    return NOTHING;
}

static uint64_t kept_from_before_a_restart(void) {
    table->flags = BUS_ACK_KEYED;
    for (uint64_t offset = 0; offset < 40; offset++) {
        table->ring[offset].offset = offset;
        table->ring[offset].word = offset % 4 ? BUS_ACK_KEPT : BUS_ACK_DONE;
        table->ring[offset].counts[BUS_ACK_FAILURE] = offset % 3 == 0;
    }
    table->ring[7].due_ns = TABLE_NOW / 2;
    table->kept = 40;
    return NOTHING;
}

static uint64_t a_dead_holder_of_lanes(void) {
    in_a_lane();
    table_settle(TABLE_VICTIM, 2, BUS_ACK_DONE);
    pid_t pid = fork();
    DEMAND(pid >= 0);
    if (pid == 0) {
        table_lock();
        memset(table->parked_bits, 0x55, sizeof table->parked_bits);
        table->waiting = table->lanes_ready = 9;
        for (int i = 0; i < 4096; i += 5) table->lanes[i].first = table->lanes[i].last = 77;
        table->lanes[LANE - 1].out = 3;
        _exit(0);
    }
    DEMAND(waitpid(pid, NULL, 0) == pid);
    return NOTHING;
}

static void finish(arena *_) { (void)_, table_settle(TABLE_VICTIM, target, BUS_ACK_DONE); }
static void put_off(arena *_) { (void)_, table_settle(TABLE_VICTIM, target, BUS_ACK_DELAYED); }
static void admit(arena *_) { (void)_, table_claim(TABLE_VICTIM, table->next + 7, 3); }
static void look_behind(arena *_) {
    (void)_;
    table_lock();
    table_look_behind();
    table_unlock();
}
static void mend(arena *_) {
    (void)_;
    table_lock();
    table_unlock();
}

const path lane_paths[] = {
    {"lane claim", in_a_lane, admit},
    {"lane claim in a full ring", a_full_ring_of_lanes, admit},
    {"lane claim after a restart", kept_from_before_a_restart, admit},
    {"lane settle done", in_a_lane, finish},
    {"lane settle delayed", in_a_lane, put_off},
    {"lane settle a parked one", in_a_parked_lane, finish},
    {"lane find a parked one", a_parked_lane_is_free, look_behind},
    {"lane find no parked one", a_parked_lane_is_empty, look_behind},
    {"lane mend", a_dead_holder_of_lanes, mend},
    {0},
};
