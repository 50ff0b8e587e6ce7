/* acks.h: the ack table of a share group, one for each partition: who works on which record.
 *
 * A share group gives each record to one member, which says what becomes of it. The records from
 * `base` to before `next` stand in a ring, one slot each; those below are done, those from `next`
 * on have never been given to anybody. So that one record that takes for ever does not hold up all
 * others, it is overtaken when the ring is full: its slot moves to a place of its own.
 *
 * In a keyed group (ack_lanes.c) a key belongs to a lane, and a lane has one record out at most:
 * given to somebody, or to be given. The next ones wait behind it.
 *
 * All of this is written under the mutex. A record changes hands by one store of its `word`. The
 * counts and the bits are caches: whoever finds the mutex of a dead holder counts again.
 */
#ifndef BUS_ACKS_H
#define BUS_ACKS_H

#include "atomics.h"
#include "layout.h"
#include "lock.h"

#define BUS_MAGIC_ACKS 0x31306b6341737542ull /* "BusAck01" */

enum {
    BUS_ACK_WINDOW = 1 << 16, /* records between the oldest that is not done and the newest given */
    BUS_ACK_OVERTAKEN = 4096, /* and so many older ones */
    BUS_ACK_LANES = 4096,     /* of a keyed group: one for each place, so all may be overtaken */
    BUS_ACK_DELETED = 1,      /* flags: the group or the topic is gone */
    BUS_ACK_KEYED = 2,        /* flags: records of one key are worked on one after the other */
};
static_assert((int)BUS_ACK_LANES <= (int)BUS_ACK_OVERTAKEN, "lanes are never without a place");

#define BUS_ACK_STEAL_NS ((int64_t)5000000)

enum bus_ack_state {
    BUS_ACK_NONE = 0,
    BUS_ACK_READY = 1,   /* came back */
    BUS_ACK_CLAIMED = 2, /* somebody has it, and has not begun */
    BUS_ACK_RUNNING = 3,
    BUS_ACK_DELAYED = 4, /* comes back at due_ns */
    BUS_ACK_DONE = 5,
    BUS_ACK_DEAD = 6,    /* rejected */
    BUS_ACK_WAITING = 7, /* for an older record of its lane; in the ring alone */
    BUS_ACK_KEPT = 8,    /* from `next` on: of before a restart, its key is yet to be looked at */
};

enum bus_ack_count { /* what is counted of a record */
    BUS_ACK_DELIVERIES = 0,
    BUS_ACK_FAILURE = 1,
    BUS_ACK_TIMEOUT = 2,
    BUS_ACK_CRASH = 3,
    BUS_ACK_OOM = 4,
    BUS_ACK_COUNTS = 8,
};

typedef struct {
    uint64_t offset;
    uint64_t word;  /* owner << 32 | lane << 16 | state; owner is a client slot + 1 while somebody
                       has it, lane is 0 without a key */
    int64_t due_ns; /* monotonic: when a delayed one comes back, a running one should be done, or a
                       claimed one may be taken by somebody who is idle. Of a waiting one: offset +
                       1 of the next that waits in its lane, or 0 */
    uint8_t counts[BUS_ACK_COUNTS]; /* each one stays at 255 */
} bus_ack;
static_assert(sizeof(bus_ack) == 32, "ack slot");

typedef struct {
    uint64_t first;  /* of the records that wait in the ring, offset + 1; 0: none */
    uint64_t last;   /* of them */
    uint64_t parked; /* offset + 1; from there to before `base` all of its records wait in the log
                        alone. Not if it is 0, or not below `base` */
    uint32_t out;    /* its records that are ready, delayed, or in somebody's hands */
    uint32_t reserved;
} bus_lane;
static_assert(sizeof(bus_lane) == 32, "lane");

typedef struct { /* a client that has had records of this partition */
    uint64_t generation; /* of the client slot; 0: nobody */
    uint32_t held;
    uint32_t reader; /* its place among the partition's readers + 1; 0: none */
} bus_claimant;
static_assert(sizeof(bus_claimant) == 16, "claimant slot");

typedef struct {
    uint64_t magic;
    uint32_t version;
    uint32_t bytes;
    uint64_t bus_id;
    uint64_t group_id;
    uint64_t topic_id;
    uint32_t partition;
    uint32_t flags;
    uint64_t reserved[2];
    bus_mutex lock;
    uint64_t low;  /* all below are done: the group's committed offset */
    uint64_t base;
    uint64_t next;
    uint32_t ready;
    uint32_t delayed;
    uint32_t overtaken_count;
    uint32_t claimants_high;
    int64_t next_due_ns; /* the earliest of the delayed ones; INT64_MAX: none */
    uint64_t done; /* for people, from here */
    uint64_t dead;
    uint64_t returned;
    uint64_t reaped;
    uint64_t stolen;
    uint32_t unbegun; /* claimed, and not begun with */
    uint32_t waiting;     /* in the ring, for an older one of their lane */
    uint32_t lanes_ready; /* parked, and nothing of them is out */
    uint32_t reserved2;
    uint64_t kept; /* of a keyed group: slots from `next` to before it are of before a restart */
    char room[256 - 128 - 112];
    bus_sleepers sleepers; /* those who wait for what comes back */
    char page[BUS_PAGE - 256 - sizeof(bus_sleepers)];
    bus_claimant claimants[BUS_CLIENTS];
    uint64_t ready_bits[BUS_ACK_WINDOW / 64];   /* ring slots that are ready */
    uint64_t delayed_bits[BUS_ACK_WINDOW / 64]; /* ring slots that are delayed */
    bus_ack overtaken[BUS_ACK_OVERTAKEN];
    bus_ack ring[BUS_ACK_WINDOW]; /* slot of offset o: o mod BUS_ACK_WINDOW */
    uint64_t parked_bits[BUS_ACK_LANES / 64];
    bus_lane lanes[BUS_ACK_LANES]; /* lane n: at n - 1 */
} bus_acks;
static_assert(offsetof(bus_acks, lock) == 64, "lock line");
static_assert(offsetof(bus_acks, low) == 128, "place line");
static_assert(offsetof(bus_acks, sleepers) == 256, "sleepers");
static_assert(offsetof(bus_acks, kept) == 232, "kept");
static_assert(offsetof(bus_acks, claimants) == BUS_PAGE, "claimants");

/* Whether the table can be worked with: another process may have written anything there. */
int bus_acks_sound(const bus_acks *acks);

/* All of these expect the mutex to be held, and a sound table. `client` is a client slot. */

/* Empty, from that offset on. */
void bus_acks_begin(bus_acks *acks, uint64_t offset);
/* After a death: the caches are made anew. */
void bus_acks_mend(bus_acks *acks);
/* Gives up to `most` records below `end` to the client, returned ones first. If there are none, one
 * that somebody else has reserved and not begun with for BUS_ACK_STEAL_NS. Returns how many. */
uint64_t bus_acks_claim(bus_acks *acks, int client, enum bus_ack_state state, uint64_t end,
                        uint64_t most, int64_t now_ns, uint64_t *offsets);
/* What the client says of a record that it has: 1, or 0 if it has not. `cause` is counted, unless
 * it is BUS_ACK_DELIVERIES. */
int bus_acks_settle(bus_acks *acks, int client, uint64_t offset, enum bus_ack_state state,
                    enum bus_ack_count cause, int64_t due_ns);
/* The log has no records from `next` to before `to`: nobody is given what is not there. */
void bus_acks_jump(bus_acks *acks, uint64_t to);
/* Takes everything from a client that leaves, or is dead: then what ran counts as a crash. */
uint64_t bus_acks_take_back(bus_acks *acks, int client, int died);
/* The slot of a record that is not done, or NULL. */
bus_ack *bus_acks_find(bus_acks *acks, uint64_t offset);

/* ---- of a keyed group, ack_lanes.c */

#define BUS_LANE_GAP UINT16_MAX /* in the place of a lane: the log has no such record */

/* The lane of a key, from 1 on. */
uint16_t bus_lane_of(const void *key, uint64_t bytes);
/* Takes up records that nobody has had: the lanes of those from `from` on. Each is ready, or waits.
 * Returns how many. Such a group claims with an `end` of 0. */
uint64_t bus_acks_admit(bus_acks *acks, uint64_t from, const uint16_t *lanes, uint64_t count);
/* A parked lane of which nothing is out, looked for from `start` on; 0: none. Its records are to be
 * looked for in the log from `*from` to before `*to`. */
uint16_t bus_acks_parked(const bus_acks *acks, uint16_t start, uint64_t *from, uint64_t *to);
/* What was found there: from `from` to before `offset` the lane has no records; if `is_one`, it has
 * one at `offset`, which is ready now. 0 if that is not so any more, or it has no place. */
int bus_acks_unpark(bus_acks *acks, uint16_t lane, uint64_t from, uint64_t offset, int is_one);

/* Without the mutex: whether a claim may find something. */
int bus_acks_has_more(const bus_acks *acks, uint64_t end, int64_t now_ns);

/* All below are done. Never above `base`, whatever stands there: the group commits it. */
static inline uint64_t bus_acks_low(const bus_acks *acks) {
    uint64_t low = bus_load_acquire(&acks->low), base = bus_load_acquire(&acks->base);
    return low < base ? low : base;
}

static inline enum bus_ack_state bus_ack_state_of(const bus_ack *ack) {
    return (enum bus_ack_state)(uint16_t)bus_load_relaxed(&ack->word);
}
static inline uint32_t bus_ack_owner(const bus_ack *ack) {
    return (uint32_t)(bus_load_relaxed(&ack->word) >> 32);
}
static inline uint16_t bus_ack_lane(const bus_ack *ack) {
    uint16_t lane = (uint16_t)(bus_load_relaxed(&ack->word) >> 16);
    return lane <= BUS_ACK_LANES ? lane : 0;
}
static inline int bus_acks_keyed(const bus_acks *acks) {
    return (bus_load32_relaxed(&acks->flags) & BUS_ACK_KEYED) != 0;
}

#endif
