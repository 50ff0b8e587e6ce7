/* main.c: dies at every instruction of what a share group does, and lets a survivor go on.
 *
 *     acks [--path PREFIX] [--grid N]
 *
 * As in ../native/main.c: states are compared, each different one is audited once, and between two
 * instructions of the grid that leave different states the one is looked for that changes it.
 */
#define _GNU_SOURCE
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "fault.h"
#include "table.h"

enum { STATES_MAX = 100000, ROUNDS_EDGE = 8, ROUNDS_STRIDE = 1021 };
enum { FULL = BUS_ACK_WINDOW };

static uint64_t states[STATES_MAX];
static long states_count, kills;
static recording recorded;
static const path *now;
static long grid = 1;

/* ------------------------------------------------------------------------- the operations */

static void done_but(uint64_t from, uint64_t to) {
    for (uint64_t offset = from; offset < to; offset++)
        table_settle(TABLE_OTHER, offset, BUS_ACK_DONE);
}

/* Record 0 is overtaken and came back, and so is 1, which is in the other one's hands. In the ring
 * are some that came back, some delayed, and some of the dead. */
static uint64_t a_bit_of_everything(void) {
    table_claim(TABLE_OTHER, FULL, FULL);
    done_but(2, FULL - 40);
    table_claim(TABLE_OTHER, FULL + 2, 2);
    table_settle(TABLE_OTHER, 0, BUS_ACK_READY);
    for (uint64_t offset = FULL - 40; offset < FULL - 36; offset++)
        table_settle(TABLE_OTHER, offset, offset % 2 ? BUS_ACK_READY : BUS_ACK_DELAYED);
    table_claim(TABLE_DEAD, FULL + 6, 8);
    return NOTHING;
}

static uint64_t much_to_claim(void) {
    a_bit_of_everything();
    table_settle(TABLE_OTHER, 1, BUS_ACK_READY);
    table_settle(TABLE_OTHER, FULL - 30, BUS_ACK_READY);
    table_settle(TABLE_OTHER, FULL - 29, BUS_ACK_DELAYED);
    return NOTHING;
}

static uint64_t the_victim_has_the_oldest(void) {
    a_bit_of_everything();
    done_but(FULL - 40, FULL + 2);
    table_lock();
    bus_acks_take_back(table, TABLE_DEAD, 0);
    table->claimants[TABLE_DEAD].generation = 1;
    table_unlock();
    table_claim(TABLE_VICTIM, FULL + 6, 9);
    return table->base;
}

static uint64_t the_victim_has_an_overtaken_one(void) {
    a_bit_of_everything();
    table_lock();
    bus_acks_take_back(table, TABLE_DEAD, 0);
    table->claimants[TABLE_DEAD].generation = 1;
    table_unlock();
    table_claim(TABLE_VICTIM, 0, 1);
    return 0;
}

static uint64_t a_full_ring(void) {
    table_claim(TABLE_OTHER, FULL, FULL - 3);
    table_claim(TABLE_DEAD, FULL, 3);
    done_but(2, 9);
    return NOTHING;
}

static uint64_t an_idle_table(void) {
    table_claim(TABLE_VICTIM, 9, 9);
    for (uint64_t offset = 0; offset < 9; offset++)
        table_settle(TABLE_VICTIM, offset, BUS_ACK_DONE);
    return NOTHING;
}

static uint64_t a_member_that_does_not_begin(void) {
    static uint64_t offsets[3];
    table_lock();
    bus_acks_claim(table, TABLE_OTHER, BUS_ACK_CLAIMED, 3, 3, -2 * BUS_ACK_STEAL_NS, offsets);
    table_unlock();
    return NOTHING;
}

static uint64_t a_dead_holder(void) {
    a_bit_of_everything();
    pid_t pid = fork();
    DEMAND(pid >= 0);
    if (pid == 0) {
        table_lock();
        memset(table->ready_bits, 0x55, sizeof table->ready_bits / 2);
        table->ready = table->delayed = table->overtaken_count = 9;
        table->claimants[TABLE_DEAD].held = 77;
        _exit(0);
    }
    DEMAND(waitpid(pid, NULL, 0) == pid);
    return NOTHING;
}

static void claim(arena *_) {
    (void)_;
    table_claim(TABLE_VICTIM, FULL + 9, 7);
}
static void steal(arena *_) { (void)_, table_claim(TABLE_VICTIM, 3, 2); }
uint64_t target;
static void settle(enum bus_ack_state state, uint64_t offset) {
    table_settle(TABLE_VICTIM, offset, state);
}
static void finish(arena *_) { (void)_, settle(BUS_ACK_DONE, target); }
static void reject(arena *_) { (void)_, settle(BUS_ACK_DEAD, target); }
static void nack(arena *_) { (void)_, settle(BUS_ACK_READY, target); }
static void put_off(arena *_) { (void)_, settle(BUS_ACK_DELAYED, target); }
static void jump_to(uint64_t to) {
    table_lock();
    bus_acks_jump(table, to);
    table_unlock();
}
static void jump(arena *_) { (void)_, jump_to(table->next + 4); }
static void jump_far(arena *_) { (void)_, jump_to(FULL + 99); }
static void reap(arena *_) {
    (void)_;
    table_lock();
    bus_acks_take_back(table, TABLE_DEAD, 1);
    table_unlock();
}
static void mend(arena *_) {
    (void)_;
    table_lock();
    table_unlock();
}

static const path paths[] = {
    {"share claim", much_to_claim, claim},
    {"share overtake", a_full_ring, claim},
    {"share steal", a_member_that_does_not_begin, steal},
    {"share settle done", the_victim_has_the_oldest, finish},
    {"share settle dead", the_victim_has_the_oldest, reject},
    {"share settle ready", the_victim_has_the_oldest, nack},
    {"share settle delayed", the_victim_has_the_oldest, put_off},
    {"share settle an overtaken one", the_victim_has_an_overtaken_one, finish},
    {"share put an overtaken one off", the_victim_has_an_overtaken_one, put_off},
    {"share jump in a full ring", a_full_ring, jump},
    {"share jump further than the ring", an_idle_table, jump_far},
    {"share reap", a_bit_of_everything, reap},
    {"share mend", a_dead_holder, mend},
    {0},
};

/* ------------------------------------------------------------------------------- the deaths */

static int is_known(uint64_t hash) {
    for (long i = 0; i < states_count; i++)
        if (states[i] == hash) return 1;
    return 0;
}

static uint64_t die_at(long n) {
    fault_at(now->name, 1, n, recorded.addresses[n]);
    table_restore();
    tracer_kill(NULL, now->operate, &recorded, n, 0);
    kills++;
    uint64_t hash = table_hash();
    if (is_known(hash)) return hash;
    DEMAND(states_count < STATES_MAX);
    states[states_count++] = hash;
    table_survive();
    return hash;
}

static int is_chosen(long n) { /* not all rounds of a long `rep stos` */
    return recorded.rounds[n] <= ROUNDS_EDGE || recorded.rounds[n] % ROUNDS_STRIDE == 0;
}

static void look_between(long low, uint64_t left, long high, uint64_t right) {
    if (left == right || high - low < 2) return;
    long middle = low + (high - low) / 2;
    if (!is_chosen(middle)) return;
    uint64_t hash = die_at(middle);
    look_between(low, left, middle, hash);
    look_between(middle, hash, high, right);
}

static void die_everywhere(void) {
    long last = recorded.count - 1, low = 0;
    uint64_t left = die_at(0);
    for (long n = 1; n <= last; n++) {
        if (n != last && (n % grid || !is_chosen(n))) continue;
        uint64_t right = die_at(n);
        look_between(low, left, n, right);
        low = n;
        left = right;
    }
}

static void sweep(void) {
    struct timespec begun, ended;
    timespec_get(&begun, TIME_UTC);
    states_count = kills = 0;
    table_reset();
    target = now->set_up();
    table_set_base(target);
    long faults = fault_count();
    tracer_record(NULL, now->operate, &recorded);
    die_everywhere();
    timespec_get(&ended, TIME_UTC);
    double seconds = (double)(ended.tv_sec - begun.tv_sec);
    seconds += 1e-9 * (double)(ended.tv_nsec - begun.tv_nsec);
    printf("path %s|%ld|%ld|%ld|%ld|%.2f\n", now->name, recorded.count - 1, kills, states_count,
           fault_count() - faults, seconds);
    fflush(stdout);
    recording_free(&recorded);
}

int main(int argc, char **argv) {
    const char *wanted = "";
    for (int i = 1; i + 1 < argc; i += 2) {
        if (strcmp(argv[i], "--path") == 0) wanted = argv[i + 1];
        else if (strcmp(argv[i], "--grid") == 0) grid = atol(argv[i + 1]);
        else DEMAND(!"an unknown option");
    }
    table_open();
    for (now = paths; now->name; now++)
        if (strncmp(wanted, now->name, strlen(wanted)) == 0) sweep();
    for (now = lane_paths; now->name; now++)
        if (strncmp(wanted, now->name, strlen(wanted)) == 0) sweep();
    printf("swept\n");
    return fault_count() ? 1 : 0;
}
