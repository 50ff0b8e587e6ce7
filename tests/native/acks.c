/* acks.c: the ack table against arrays that say the same in the simplest way, and hostile words. */
#include "acks.h"

#include <string.h>

#include "check.h"
#include "recount.h"

enum { MEMBERS = 6, RECORDS = 1 << 18, MOST = 3000, ROUNDS = 600 };

typedef struct {
    uint8_t state, owner; /* NONE: never given */
    uint8_t counts[BUS_ACK_COUNTS];
    int64_t due_ns;
} record;

static bus_acks *acks;
static record model[RECORDS];
static uint64_t next, seed, end;
static int64_t now;
static uint64_t offsets[MOST];

static uint64_t roll(uint64_t sides) { return (check_random(&seed) >> 8) % sides; }

static void begin(uint64_t with_seed) {
    free(acks);
    acks = calloc(1, sizeof *acks);
    CHECK(acks);
    acks->magic = BUS_MAGIC_ACKS;
    bus_acks_begin(acks, 0);
    for (int i = 0; i < MEMBERS; i++) acks->claimants[i].generation = (uint64_t)i + 1;
    memset(model, 0, sizeof model);
    next = end = 0;
    now = 1000;
    seed = with_seed;
}

static void check_same(void) {
    static recounted found;
    const char *wrong = recount(acks, &found);
    if (wrong) fprintf(stderr, "the table and its caches differ: %s\n", wrong);
    CHECK(wrong == NULL);
    uint64_t not_done = 0;
    for (uint64_t offset = 0; offset < next; offset++) {
        record *one = &model[offset];
        if (one->state >= BUS_ACK_DONE) {
            CHECK(bus_acks_find(acks, offset) == NULL);
            continue;
        }
        if (not_done++ > 300) continue; /* finding is slow; all are counted */
        bus_ack *ack = bus_acks_find(acks, offset);
        CHECK(ack);
        CHECK_EQUAL(ack->offset, offset);
        CHECK_EQUAL(bus_ack_state_of(ack), one->state);
        CHECK_EQUAL(bus_ack_owner(ack), one->owner);
        CHECK(memcmp(ack->counts, one->counts, sizeof one->counts) == 0);
    }
    CHECK_EQUAL(found.not_done, not_done);
    CHECK_EQUAL(acks->next, next);
}

static void add(record *one, int what) {
    if (one->counts[what] < 255) one->counts[what]++;
}

/* How many a claim should give: those that came back, and new ones while there is room. */
static uint64_t available(uint64_t most) {
    uint64_t back = 0;
    for (uint64_t offset = 0; offset < next; offset++) {
        record *one = &model[offset];
        if (one->state == BUS_ACK_DELAYED && one->due_ns <= now) one->state = BUS_ACK_READY;
        back += one->state == BUS_ACK_READY;
    }
    uint64_t all = back + (end - next);
    return all < most ? all : most;
}

/* Nothing new fits: the model does not count what is overtaken. */
static int is_full(void) {
    return acks->next - acks->base == BUS_ACK_WINDOW && acks->overtaken_count == BUS_ACK_OVERTAKEN;
}

/* Who is idle takes what somebody else has had for long and has not begun with. */
static void rob(record *one, int member) {
    CHECK(one->owner != member + 1 && one->due_ns <= now);
    if (one->counts[BUS_ACK_DELIVERIES]) one->counts[BUS_ACK_DELIVERIES]--;
}

static void claim(void) {
    int member = (int)roll(MEMBERS);
    enum bus_ack_state state = roll(2) ? BUS_ACK_RUNNING : BUS_ACK_CLAIMED;
    uint64_t most = roll(4) ? roll(20) + 1 : roll(MOST) + 1;
    end += roll(most + 2);
    if (end > RECORDS) end = RECORDS;
    if (roll(8) == 0) end = next;
    uint64_t wanted = available(most);
    uint64_t found = bus_acks_claim(acks, member, state, end, most, now, offsets);
    CHECK(found == wanted || (found < wanted && is_full()) || (wanted == 0 && found == 1));
    for (uint64_t i = 0; i < found; i++) {
        record *one = &model[offsets[i]];
        if (offsets[i] == next) next++; /* new ones come in order, and behind what came back */
        else if (one->state == BUS_ACK_CLAIMED) rob(one, member);
        else CHECK(offsets[i] < next && one->state == BUS_ACK_READY);
        one->due_ns = now + BUS_ACK_STEAL_NS;
        one->state = (uint8_t)state;
        one->owner = (uint8_t)(member + 1);
        add(one, BUS_ACK_DELIVERIES);
    }
}

static void back(record *one, enum bus_ack_state state) {
    one->state = (uint8_t)state;
    one->owner = 0;
}

static void settle_one(uint64_t offset, int member, enum bus_ack_state state) {
    record *one = &model[offset];
    enum bus_ack_count cause = (enum bus_ack_count)roll(5);
    int64_t due = now + (int64_t)roll(1000);
    int knows = one->owner == member + 1;
    CHECK_EQUAL(bus_acks_settle(acks, member, offset, state, cause, due), knows);
    if (!knows) return;
    if (state == BUS_ACK_RUNNING) {
        one->state = (uint8_t)state;
        return;
    }
    if (state < BUS_ACK_DONE) {
        if (cause) add(one, cause);
        else if (one->state == BUS_ACK_CLAIMED) one->counts[BUS_ACK_DELIVERIES]--;
        one->due_ns = due;
    }
    back(one, state);
}

/* Most of what somebody has; the rest stays, so that some is overtaken. */
static void settle(void) {
    static const enum bus_ack_state states[] = {BUS_ACK_DONE,    BUS_ACK_DONE, BUS_ACK_DONE,
                                                BUS_ACK_DELAYED, BUS_ACK_DEAD, BUS_ACK_READY,
                                                BUS_ACK_RUNNING};
    uint64_t begin_at = roll(next + 1), length = roll(3) ? roll(30) : next;
    for (uint64_t offset = begin_at; offset < next && offset - begin_at < length; offset++) {
        record *one = &model[offset];
        if (one->owner == 0 || roll(500) == 0) {
            if (roll(50) == 0) settle_one(offset, (int)roll(MEMBERS), BUS_ACK_DONE);
            continue;
        }
        enum bus_ack_state state = roll(20) ? BUS_ACK_DONE : states[roll(7)];
        settle_one(offset, one->owner - 1, state);
    }
}

static void take_back(void) {
    int member = (int)roll(MEMBERS), died = (int)roll(2);
    uint64_t had = 0;
    for (uint64_t offset = 0; offset < next; offset++) {
        record *one = &model[offset];
        if (one->owner != member + 1) continue;
        had++;
        if (one->state == BUS_ACK_CLAIMED) one->counts[BUS_ACK_DELIVERIES]--;
        else if (died) add(one, BUS_ACK_CRASH);
        else one->counts[BUS_ACK_DELIVERIES] -= one->counts[BUS_ACK_DELIVERIES] == 0;
        back(one, BUS_ACK_READY);
    }
    CHECK_EQUAL(bus_acks_take_back(acks, member, died), had);
    CHECK_EQUAL(acks->claimants[member].generation, 0);
    acks->claimants[member].generation = roll(1000) + 1;
}

static void jump(void) {
    uint64_t to = next + roll(roll(20) ? 40 : 2 * BUS_ACK_WINDOW);
    if (to > RECORDS) return;
    bus_acks_jump(acks, to);
    CHECK(acks->next == to || is_full());
    for (; next < acks->next; next++) model[next].state = BUS_ACK_DONE;
    if (end < next) end = next;
}

static void mend(void) {
    memset(acks->ready_bits, (int)roll(256), sizeof acks->ready_bits);
    acks->ready = (uint32_t)roll(99);
    acks->claimants[roll(MEMBERS)].held = (uint32_t)roll(99);
    acks->overtaken_count = (uint32_t)roll(99);
    acks->next_due_ns = (int64_t)roll(99);
    bus_acks_mend(acks);
}

static void a_random_run_agrees_with_plain_arrays(void) {
    begin(7919);
    for (int round = 0; round < ROUNDS && next < RECORDS - MOST; round++) {
        now += (int64_t)(roll(9) ? roll(100) : roll(2 * BUS_ACK_STEAL_NS));
        uint64_t side = roll(16);
        if (side == 0) take_back();
        else if (side == 1) jump();
        else if (side == 2) mend();
        else if (side < 9) settle();
        else claim();
        if (round % 64 == 0) check_same();
    }
    check_same();
    CHECK(next > 2 * BUS_ACK_WINDOW);
}

static uint64_t claim_all(uint64_t until) {
    uint64_t all = 0, found;
    while ((found = bus_acks_claim(acks, 0, BUS_ACK_RUNNING, until, MOST, now, offsets)) > 0)
        all += found;
    return all;
}

static void a_full_table_gives_nothing_new_until_something_is_done(void) {
    begin(1);
    uint64_t room = BUS_ACK_WINDOW + BUS_ACK_OVERTAKEN;
    CHECK_EQUAL(claim_all(RECORDS), room);
    CHECK(!bus_acks_has_more(acks, RECORDS, now));
    CHECK_EQUAL(acks->low, 0);
    CHECK(bus_acks_settle(acks, 0, 17, BUS_ACK_DONE, BUS_ACK_DELIVERIES, 0));
    CHECK(bus_acks_has_more(acks, RECORDS, now));
    CHECK_EQUAL(claim_all(RECORDS), 1);
    CHECK(bus_acks_settle(acks, 0, 0, BUS_ACK_DEAD, BUS_ACK_DELIVERIES, 0));
    CHECK_EQUAL(acks->low, 1);
    bus_acks_jump(acks, RECORDS * 2); /* no room: later */
    CHECK_EQUAL(acks->low, 1);
    CHECK(acks->next < RECORDS);
    for (uint64_t offset = 1; offset < acks->next; offset++)
        bus_acks_settle(acks, 0, offset, BUS_ACK_DONE, BUS_ACK_DELIVERIES, 0);
    CHECK_EQUAL(acks->low, acks->next);
    bus_acks_jump(acks, RECORDS * 2);
    CHECK_EQUAL(acks->low, RECORDS * 2);
}

static void what_nobody_can_be_found_dead_for_comes_back(void) {
    begin(1);
    CHECK_EQUAL(bus_acks_claim(acks, 2, BUS_ACK_RUNNING, 5, 5, now, offsets), 5);
    acks->ring[0].word = (uint64_t)(BUS_CLIENTS + 1) << 32 | BUS_ACK_RUNNING;
    acks->ring[1].word = BUS_ACK_CLAIMED;
    acks->ring[2].word = 77;
    acks->ring[3].word = (uint64_t)500 << 32 | BUS_ACK_RUNNING; /* a client that is not there */
    bus_acks_mend(acks);
    CHECK_EQUAL(acks->ready, 4);
    CHECK_EQUAL(acks->claimants[2].held, 1);
    CHECK_EQUAL(acks->low, 0);
}

static void a_count_that_lies_keeps_nobody_awake(void) {
    begin(1);
    CHECK_EQUAL(claim_all(5), 5);
    acks->ready = 3;
    CHECK(bus_acks_has_more(acks, 5, now));
    CHECK_EQUAL(claim_all(5), 0);
    CHECK(!bus_acks_has_more(acks, 5, now));
}

static void low_is_never_above_what_is_in_the_ring(void) {
    begin(1);
    CHECK_EQUAL(claim_all(5), 5);
    acks->low = 4;
    CHECK_EQUAL(bus_acks_low(acks), 0);
    CHECK(!bus_acks_sound(acks));
    acks->low = 0;
    CHECK(bus_acks_sound(acks));
}

/* Words near the head decide most. */
static void scribble(void) {
    uint64_t words = sizeof *acks / 8, head = offsetof(bus_acks, low) / 8;
    for (uint64_t left = roll(20) + 1; left; left--) {
        uint64_t at = roll(3) ? head + roll(10) : roll(2) ? head + roll(1024) : roll(words);
        uint64_t value = roll(3) ? check_random(&seed) : roll(2) ? roll(BUS_ACK_WINDOW) : 0;
        if (at * 8 >= offsetof(bus_acks, low)) ((uint64_t *)acks)[at] = value;
    }
}

static void work_on(void) {
    for (int i = 0; i < 8 && bus_acks_sound(acks); i++) {
        int member = (int)roll(MEMBERS);
        uint64_t found = bus_acks_claim(acks, member, BUS_ACK_RUNNING, acks->next + roll(900),
                                        roll(100), now, offsets);
        CHECK(found < 100);
        for (uint64_t k = 0; k < found; k++)
            bus_acks_settle(acks, member, offsets[k], BUS_ACK_READY + roll(6), BUS_ACK_FAILURE,
                            now);
        if (roll(4) == 0) bus_acks_take_back(acks, member, 1);
        if (roll(16) == 0) bus_acks_jump(acks, acks->next + roll(3 * BUS_ACK_WINDOW));
        bus_acks_has_more(acks, acks->next + 1, now);
    }
}

static void hostile_words_end_neither_in_a_crash_nor_in_an_endless_loop(void) {
    static recounted found;
    begin(99);
    for (int round = 0; round < 300; round++) {
        if (round % 20 == 0) begin(seed);
        work_on();
        scribble();
        work_on();
        bus_acks_mend(acks);
        if (bus_acks_sound(acks)) CHECK(recount(acks, &found) == NULL);
        else begin(seed);
    }
}

const check_test ack_tests[] = {
    {"a random run agrees with plain arrays", a_random_run_agrees_with_plain_arrays},
    {"a full table gives nothing new until something is done",
     a_full_table_gives_nothing_new_until_something_is_done},
    {"what nobody can be found dead for comes back", what_nobody_can_be_found_dead_for_comes_back},
    {"a count that lies keeps nobody awake", a_count_that_lies_keeps_nobody_awake},
    {"low is never above what is in the ring", low_is_never_above_what_is_in_the_ring},
    {"hostile words end neither in a crash nor in an endless loop",
     hostile_words_end_neither_in_a_crash_nor_in_an_endless_loop},
    {0},
};
