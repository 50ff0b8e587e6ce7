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

/* A third has no key, and the others are of five lanes. */
uint16_t table_lane(uint64_t offset) {
    return offset % 3 ? (uint16_t)(1 + offset % 5 * 800) : 0;
}

static uint64_t admit(uint64_t end) {
    static uint16_t lanes[TABLE_CLAIMED_MAX];
    uint64_t from = table->next, count = 0;
    for (; from + count < end && count < TABLE_CLAIMED_MAX; count++)
        lanes[count] = table_lane(from + count);
    return bus_acks_admit(table, from, lanes, count);
}

int table_look_behind(void) {
    uint64_t from, to;
    uint16_t lane = bus_acks_parked(table, 0, &from, &to);
    if (!lane) return 0;
    uint64_t offset = from;
    while (offset < to && table_lane(offset) != lane) offset++;
    return bus_acks_unpark(table, lane, from, offset, offset < to);
}

static uint64_t claim_keyed(int client, uint64_t end, uint64_t most) {
    for (;;) {
        table_lock();
        uint64_t admitted = admit(end);
        uint64_t found =
            bus_acks_claim(table, client, BUS_ACK_RUNNING, 0, most, TABLE_NOW, offsets);
        if (!found) admitted += (uint64_t)table_look_behind();
        table_unlock();
        if (found || !admitted) return found;
    }
}

uint64_t table_claim(int client, uint64_t end, uint64_t most) {
    if (bus_acks_keyed(table)) return claim_keyed(client, end, most);
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

/* A record that waits in the log alone is neither final nor in a slot. */
static int is_parked(const bus_acks *acks, uint64_t offset) {
    uint16_t lane = table_lane(offset);
    if (!bus_acks_keyed(acks) || !lane || offset >= acks->base) return 0;
    return acks->lanes[lane - 1].parked && offset >= acks->lanes[lane - 1].parked - 1;
}

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
        int was_there = was || is_parked(base, offset), is_there = is || is_parked(table, offset);
        if (was_there && !is_there && offset != settled)
            fault("%lu is final, nobody said so", (long)offset);
        if (!was_there && is_there) fault("%lu was final, and is not", (long)offset);
        if (is && is_parked(table, offset)) fault("%lu is there twice", (long)offset);
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

/* Those of a lane come one after the other: none before an older one is done. */
static void check_turn(uint64_t offset) {
    uint16_t lane = table_lane(offset);
    if (!bus_acks_keyed(table) || !lane) return;
    for (uint64_t i = 0; i < BUS_ACK_OVERTAKEN; i++) {
        const bus_ack *ack = &table->overtaken[i];
        if (bus_ack_state_of(ack) && ack->offset < offset && table_lane(ack->offset) == lane)
            fault("%lu came before %lu", (long)offset, (long)ack->offset);
    }
    if (table->lanes[lane - 1].parked && table->lanes[lane - 1].parked - 1 < offset &&
        table->lanes[lane - 1].parked - 1 < table->base && offset >= table->base)
        fault("%lu came before those that are parked", (long)offset);
    uint64_t from = offset > table->base + 64 ? offset - 64 : table->base;
    for (; from < offset; from++)
        if (table_lane(from) == lane && look(table, from))
            fault("%lu came too early", (long)offset);
}

/* In a keyed group what waits for the other one's records stays as well. */
static uint64_t waits_for_the_other(uint64_t end) {
    uint64_t found = 0;
    for (uint64_t offset = 0; offset < end; offset++)
        if (offset >= table->base) found += look(table, offset) != NULL;
    return found + table->overtaken_count;
}

static void check_that_it_has_them(void) {
    uint64_t word = (uint64_t)(TABLE_OTHER + 1) << 32 | BUS_ACK_RUNNING;
    for (uint32_t i = 0; i < BUS_ACK_LANES; i++) {
        const bus_lane *lane = &table->lanes[i];
        if (!lane->out && !lane->first && !lane->parked) continue;
        int found = 0;
        for (uint64_t j = 0; j < BUS_ACK_OVERTAKEN; j++)
            found += table->overtaken[j].word == (word | (uint64_t)(i + 1) << 16);
        for (uint64_t offset = table->base; offset < table->next; offset++)
            found += table->ring[offset % BUS_ACK_WINDOW].word == (word | (uint64_t)(i + 1) << 16);
        if (found != 1) fault("lane %u waits, and the other one has %d of it", i + 1, found);
    }
}

/* Everything comes, once, but for what the other one has: then all below that is done. */
static void work_on_all(void) {
    static uint8_t seen[4 * BUS_ACK_WINDOW];
    memset(seen, 0, sizeof seen);
    uint64_t found, end = table->next + 3, left = running_of_the_other();
    while ((found = table_claim(TABLE_SURVIVOR, end, 1000)) > 0)
        for (uint64_t i = 0; i < found; i++) {
            if (offsets[i] >= sizeof seen || seen[offsets[i]]++) fault("a record came twice");
            check_turn(offsets[i]);
            table_settle(TABLE_SURVIVOR, offsets[i], BUS_ACK_DONE);
        }
    static recounted now;
    const char *wrong = recount(table, &now);
    if (wrong) fault("after all was done: %s", wrong);
    if (now.passed) fault("%lu records have passed others of their lane", (long)now.passed);
    if (bus_acks_keyed(table)) {
        check_that_it_has_them();
        left = waits_for_the_other(end);
    }
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
