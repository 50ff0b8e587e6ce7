#define _GNU_SOURCE
#include "table.h"

#include <string.h>
#include <sys/mman.h>

#include "fault.h"
#include "recount.h"

#define OWNER_DIED 0x40000000u /* linux/futex.h */
#define NOBODY UINT64_MAX

bus_acks *table;
static bus_acks *base;
static uint64_t settled, offsets[TABLE_CLAIMED_MAX];

void table_open(void) {
    int flags = MAP_SHARED | MAP_ANONYMOUS;
    table = mmap(NULL, sizeof *table, PROT_READ | PROT_WRITE, flags, -1, 0);
    base = malloc(sizeof *base);
    DEMAND(table != MAP_FAILED && base);
}

void table_reset(void) {
    memset(table, 0, sizeof *table);
    table->magic = BUS_MAGIC_ACKS;
    DEMAND(bus_lock_create(&table->lock) == 0);
    bus_acks_begin(table, 0);
    table->claimants_high = TABLE_SURVIVOR + 1;
    for (int client = TABLE_VICTIM; client <= TABLE_SURVIVOR; client++)
        table->claimants[client].generation = 1;
}

void table_lock(void) {
    enum bus_lock_result taken = bus_lock_nowait(&table->lock);
    if (taken == BUS_LOCK_OWNER_DIED) bus_lock_inherit(&table->lock);
    else if (taken != BUS_LOCK_TAKEN) fault("the mutex cannot be taken: %d", (int)taken);
    if (!bus_lock_unrepaired(&table->lock)) return;
    bus_acks_mend(table);
    bus_lock_mended(&table->lock);
}

void table_unlock(void) { bus_unlock(&table->lock); }

uint64_t table_claim(int client, uint64_t end, uint64_t most) {
    table_lock();
    uint64_t found =
        bus_acks_claim(table, client, BUS_ACK_RUNNING, end, most, TABLE_NOW, offsets);
    table_unlock();
    return found;
}

void table_settle(int client, uint64_t offset, enum bus_ack_state state) {
    table_lock();
    bus_acks_settle(table, client, offset, state,
                    state < BUS_ACK_DONE ? BUS_ACK_FAILURE : BUS_ACK_DELIVERIES, TABLE_NOW / 2);
    table_unlock();
}

void table_set_base(uint64_t offset) {
    memcpy(base, table, sizeof *base);
    settled = offset;
}

void table_restore(void) { memcpy(table, base, sizeof *base); }

static uint64_t mix(uint64_t hash, const void *bytes, uint64_t length) {
    const uint64_t *words = bytes;
    for (uint64_t i = 0; i < length / 8; i++) hash = (hash ^ words[i]) * 0x9e3779b97f4a7c15ull;
    return hash ^ hash >> 29;
}

/* All but who holds the mutex, and where its owner's list of mutexes stands. */
uint64_t table_hash(void) {
    uint32_t word = bus_load32_relaxed((const uint32_t *)&table->lock) & OWNER_DIED;
    uint64_t lock[2] = {word, table->lock.unrepaired};
    uint64_t hash = mix(1, lock, sizeof lock), from = offsetof(bus_acks, low);
    return mix(hash, (const uint8_t *)table + from, sizeof *table - from);
}

/* ---------------------------------------------------------------------------- the survivor */

/* The slot of an offset in a table, or NULL if it is final; without a cache. */
static const bus_ack *look(const bus_acks *acks, uint64_t offset) {
    if (offset >= acks->base) {
        const bus_ack *ack = &acks->ring[offset % BUS_ACK_WINDOW];
        return recount_is_final(ack) ? NULL : ack;
    }
    for (uint64_t i = 0; i < BUS_ACK_OVERTAKEN; i++)
        if (bus_ack_state_of(&acks->overtaken[i]) && acks->overtaken[i].offset == offset)
            return &acks->overtaken[i];
    return NULL;
}

/* The few that are overtaken, and all in the ring: whatever was final is, and nothing else. */
static void compare(void) {
    for (uint64_t offset = 0; offset < base->next; offset++) {
        if (offset < base->base && offset >= 64 && offset + 64 < base->base) continue;
        const bus_ack *was = look(base, offset), *is = look(table, offset);
        if (was && !is && offset != settled) fault("%lu is final, nobody said so", (long)offset);
        if (!was && is) fault("%lu was final, and is not", (long)offset);
        if (!was || !is) continue;
        for (int i = 0; i < BUS_ACK_COUNTS; i++)
            if (is->counts[i] > was->counts[i] + 1 || is->counts[i] + 1 < was->counts[i])
                fault("count %d of %lu is %d, it was %d", i, (long)offset, is->counts[i],
                      was->counts[i]);
    }
    if (table->next < base->next) fault("next went back");
}

static void take_from_the_dead(void) {
    static const int dead[] = {TABLE_VICTIM, TABLE_DEAD};
    for (int i = 0; i < 2; i++) {
        table_lock();
        bus_acks_take_back(table, dead[i], 1);
        table_unlock();
    }
}

/* What it has only reserved, the survivor takes. */
static uint64_t running_of_the_other(void) {
    uint64_t word = (uint64_t)(TABLE_OTHER + 1) << 32 | BUS_ACK_RUNNING, found = 0;
    for (uint64_t i = 0; i < BUS_ACK_OVERTAKEN; i++) found += base->overtaken[i].word == word;
    for (uint64_t offset = base->base; offset < base->next; offset++)
        found += base->ring[offset % BUS_ACK_WINDOW].word == word;
    return found;
}

/* Everything comes, once, but for what the other one has: then all below that is done. */
static void work_on_all(void) {
    static uint8_t seen[4 * BUS_ACK_WINDOW];
    memset(seen, 0, sizeof seen);
    uint64_t found, end = table->next + 3, left = running_of_the_other();
    while ((found = table_claim(TABLE_SURVIVOR, end, 1000)) > 0)
        for (uint64_t i = 0; i < found; i++) {
            if (offsets[i] >= sizeof seen || seen[offsets[i]]++) fault("a record came twice");
            table_settle(TABLE_SURVIVOR, offsets[i], BUS_ACK_DONE);
        }
    static recounted now;
    const char *wrong = recount(table, &now);
    if (wrong) fault("after all was done: %s", wrong);
    if (now.not_done != left) fault("%lu records are lost", (long)(now.not_done - left));
    if (left == 0 && table->low != end) fault("low is %lu", (long)table->low);
}

void table_survive(void) {
    static recounted now;
    table_lock();
    const char *wrong = recount(table, &now);
    table_unlock();
    if (wrong) {
        fault("after mending: %s", wrong);
        return;
    }
    compare();
    take_from_the_dead();
    wrong = recount(table, &now);
    if (wrong) fault("after the dead were reaped: %s", wrong);
    else work_on_all();
}
