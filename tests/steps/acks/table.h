/* table.h: the ack table that processes die in, and a survivor who looks at what they leave. */
#ifndef TABLE_H
#define TABLE_H

#include "acks.h"
#include "tracer.h"

typedef struct { /* an operation that somebody dies in */
    const char *name;
    uint64_t (*set_up)(void); /* returns the offset that the operation settles, or NOTHING */
    operation *operate;
} path;
#define NOTHING UINT64_MAX

extern uint64_t target; /* what `set_up` returned */
extern const path lane_paths[];

enum { /* client slots: who dies, who lives and has records, who died before, who goes on */
    TABLE_VICTIM = 5,
    TABLE_OTHER = 6,
    TABLE_DEAD = 7,
    TABLE_SURVIVOR = 9,
    TABLE_CLAIMED_MAX = 2 * BUS_ACK_WINDOW,
};
#define TABLE_NOW ((int64_t)1000000)

extern bus_acks *table;

void table_open(void);
/* Empty, with all of them attached. */
void table_reset(void);
void table_lock(void); /* what a dead holder left is mended first: acks.pxi */
void table_unlock(void);
uint64_t table_claim(int client, uint64_t end, uint64_t most);
/* What a reader of the log would say of a record of a keyed group. */
uint16_t table_lane(uint64_t offset);
/* Finds the next record of a parked lane in the log; 0 if there is none to find. */
int table_look_behind(void);
void table_settle(int client, uint64_t offset, enum bus_ack_state state);

/* What stands there is where each victim begins; `settled` may be final afterwards, or not. */
void table_set_base(uint64_t settled);
void table_restore(void);
uint64_t table_hash(void); /* of what a survivor can see */
/* Mends, takes back what the dead had, works on all of it; faults are collected (see fault.h). */
void table_survive(void);

#endif
