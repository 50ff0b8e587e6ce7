/* keyed.c: the order of keys: no record of a lane is out before all older ones of it are done. */
#include <string.h>

#include "acks.h"
#include "check.h"
#include "recount.h"

enum { MEMBERS = 5, RECORDS = 1 << 18, MOST = 400, ROUNDS = 4000, LANES = 40, STUCK = 7 };

static bus_acks *acks;
static uint16_t log_lanes[RECORDS]; /* what a reader of the log would say */
static uint8_t states[RECORDS], owners[RECORDS];
static uint64_t heads[LANES + 1]; /* by lane: all of its records below are final */
static uint64_t seed, end;
static int64_t now;
static uint64_t offsets[MOST];

static uint64_t roll(uint64_t sides) { return (check_random(&seed) >> 8) % sides; }

/* A tenth of the records has no key, a few offsets have no record. */
static uint16_t any_lane(void) {
    uint64_t side = roll(100);
    if (side < 10) return 0;
    if (side < 12) return BUS_LANE_GAP;
    return (uint16_t)(1 + (side < 50 ? roll(4) : roll(LANES)));
}

static void begin(uint64_t with_seed) {
    free(acks);
    acks = calloc(1, sizeof *acks);
    CHECK(acks);
    acks->magic = BUS_MAGIC_ACKS;
    acks->flags = BUS_ACK_KEYED;
    bus_acks_begin(acks, 0);
    for (int i = 0; i < MEMBERS; i++) acks->claimants[i].generation = (uint64_t)i + 1;
    seed = with_seed;
    end = 0;
    now = 1000;
    memset(states, 0, sizeof states);
    memset(owners, 0, sizeof owners);
    memset(heads, 0, sizeof heads);
    for (uint64_t offset = 0; offset < RECORDS; offset++) log_lanes[offset] = any_lane();
}

static int is_over(uint64_t offset) {
    return states[offset] >= BUS_ACK_DONE || log_lanes[offset] == BUS_LANE_GAP;
}

/* The oldest record of a lane that is not final, or `end`. */
static uint64_t head_of(uint16_t lane) {
    while (heads[lane] < end && (log_lanes[heads[lane]] != lane || is_over(heads[lane])))
        heads[lane]++;
    return heads[lane];
}

static void check_same(void) {
    static recounted found;
    const char *wrong = recount(acks, &found);
    if (wrong) fprintf(stderr, "the table and its caches differ: %s\n", wrong);
    CHECK(wrong == NULL);
    CHECK_EQUAL(found.passed, 0);
}

/* As share.pxi does it: what is parked is looked for in the log. */
static int look_behind(int member) {
    uint64_t from, to;
    uint16_t lane = bus_acks_parked(acks, (uint16_t)(member * 999), &from, &to);
    if (!lane) return 0;
    uint64_t offset = from, least = from + roll(2000);
    while (offset < to && log_lanes[offset] != lane && offset < least) offset++;
    int is_one = offset < to && log_lanes[offset] == lane;
    return bus_acks_unpark(acks, lane, from, offset, is_one);
}

static uint64_t claim_some(int member, enum bus_ack_state state, uint64_t most) {
    for (int looks = 0;; looks++) {
        uint64_t from = acks->next, ahead = end - from < 128 ? end - from : 128;
        uint64_t admitted = bus_acks_admit(acks, from, log_lanes + from, ahead);
        uint64_t found = bus_acks_claim(acks, member, state, 0, most, now, offsets);
        if (found) return found;
        int more = acks->lanes_ready && look_behind(member);
        if (!admitted && !more) return 0;
    }
}

static void check_given(uint64_t offset) {
    uint16_t lane = log_lanes[offset];
    CHECK(offset < end && lane != BUS_LANE_GAP);
    CHECK(states[offset] < BUS_ACK_DONE);
    if (lane) CHECK_EQUAL(head_of(lane), offset);
}

static void claim(void) {
    int member = (int)roll(MEMBERS);
    enum bus_ack_state state = roll(2) ? BUS_ACK_RUNNING : BUS_ACK_CLAIMED;
    end += roll(roll(30) ? 60 : 3000);
    if (end > RECORDS) end = RECORDS;
    uint64_t found = claim_some(member, state, roll(roll(5) ? 5 : MOST) + 1);
    for (uint64_t i = 0; i < found; i++) {
        check_given(offsets[i]);
        if (owners[offsets[i]]) /* it was stolen */
            CHECK(found == 1 && states[offsets[i]] == BUS_ACK_CLAIMED &&
                  owners[offsets[i]] != member + 1);
        states[offsets[i]] = (uint8_t)state;
        owners[offsets[i]] = (uint8_t)(member + 1);
    }
}

static void say(uint64_t offset, enum bus_ack_state state) {
    int member = owners[offset] - 1;
    CHECK(bus_acks_settle(acks, member, offset, state, BUS_ACK_FAILURE, now + (int64_t)roll(500)));
    CHECK(!bus_acks_settle(acks, (member + 1) % MEMBERS, offset, BUS_ACK_DONE, 0, 0));
    states[offset] = (uint8_t)state;
    if (state != BUS_ACK_RUNNING) owners[offset] = 0;
}

/* A lane, and now and then a record without a key, is stuck for as long as `stuck` is set. */
static void settle(int stuck) {
    static const enum bus_ack_state said[] = {BUS_ACK_RUNNING, BUS_ACK_READY, BUS_ACK_DELAYED,
                                              BUS_ACK_DEAD};
    uint64_t from = acks->low;
    for (uint64_t offset = from; offset < acks->next; offset++) {
        if (!owners[offset] || roll(3) == 0) continue;
        if (stuck && (log_lanes[offset] == STUCK || offset % 9973 == 0)) continue;
        say(offset, roll(12) ? BUS_ACK_DONE : said[roll(4)]);
    }
}

static void take_back(void) {
    int member = (int)roll(MEMBERS);
    bus_acks_take_back(acks, member, (int)roll(2));
    acks->claimants[member].generation = roll(1000) + 1;
    for (uint64_t offset = acks->low; offset < acks->next; offset++)
        if (owners[offset] == member + 1) owners[offset] = states[offset] = 0;
}

static void mend(void) {
    for (int i = 0; i < 50; i++) {
        bus_lane *lane = &acks->lanes[roll(LANES + 3)];
        lane->first = roll(RECORDS);
        lane->last = roll(RECORDS);
        lane->out = (uint32_t)roll(3);
    }
    acks->waiting = acks->lanes_ready = (uint32_t)roll(99);
    memset(acks->parked_bits, (int)roll(256), sizeof acks->parked_bits);
    bus_acks_mend(acks);
}

/* Whoever comes gets the oldest record of each lane that nobody has, whatever is stuck. */
static void check_that_nothing_else_waits(void) {
    static uint64_t all[RECORDS];
    uint64_t count = 0, found;
    now += 1000;
    while ((found = claim_some(0, BUS_ACK_RUNNING, MOST)) > 0)
        for (uint64_t i = 0; i < found; i++) {
            check_given(offsets[i]);
            states[offsets[i]] = BUS_ACK_RUNNING;
            owners[offsets[i]] = 1;
            all[count++] = offsets[i];
        }
    CHECK_EQUAL(acks->next, end);
    for (uint16_t lane = 1; lane <= LANES; lane++)
        CHECK(head_of(lane) == end || owners[head_of(lane)]);
    while (count--) say(all[count], BUS_ACK_READY);
}

static void finish_all(void) {
    uint64_t found, done = 0;
    now += 1000000;
    for (uint64_t offset = acks->low; offset < end; offset++)
        if (owners[offset]) say(offset, BUS_ACK_DONE);
    while ((found = claim_some(0, BUS_ACK_RUNNING, MOST)) > 0)
        for (uint64_t i = 0; i < found; i++) {
            check_given(offsets[i]);
            owners[offsets[i]] = 1;
            say(offsets[i], BUS_ACK_DONE);
            done++;
        }
    CHECK_EQUAL(acks->low, end);
    CHECK_EQUAL(acks->waiting, 0);
    CHECK(done > 0);
}

static void a_random_run_keeps_the_order_of_every_lane(void) {
    uint64_t parked = 0;
    begin(4711);
    for (int round = 0; round < ROUNDS && end < RECORDS; round++) {
        now += (int64_t)roll(roll(9) ? 100 : 2 * BUS_ACK_STEAL_NS);
        uint64_t side = roll(64);
        if (side == 0) take_back();
        else if (side == 1) mend();
        else if (side < 24) settle(1);
        else claim();
        if (round % 128 == 0) check_same();
        parked += acks->parked_bits[0] != 0;
    }
    check_same();
    CHECK(acks->next > 2 * BUS_ACK_WINDOW && parked > 0);
    check_that_nothing_else_waits();
    check_same();
    finish_all();
    check_same();
}

static void a_key_that_is_stuck_costs_one_place_whatever_comes_behind_it(void) {
    begin(1);
    for (uint64_t offset = 0; offset < RECORDS; offset++)
        log_lanes[offset] = offset % 2 ? (uint16_t)(1 + offset % LANES) : STUCK;
    for (end = 512; end <= RECORDS; end += 512)
        for (uint64_t found; (found = claim_some(1, BUS_ACK_RUNNING, MOST)) > 0;)
            for (uint64_t i = 0; i < found; i++) {
                check_given(offsets[i]);
                owners[offsets[i]] = 2;
                if (log_lanes[offsets[i]] != STUCK) say(offsets[i], BUS_ACK_DONE);
            }
    end = RECORDS;
    check_that_nothing_else_waits();
    CHECK_EQUAL(acks->overtaken_count, 1);
    CHECK_EQUAL(acks->low, 0);
    CHECK_EQUAL(acks->done, RECORDS / 2);
    finish_all();
    check_same();
}

static void a_new_record_waits_for_those_that_are_parked(void) {
    begin(4);
    memset(log_lanes, 0, sizeof log_lanes);
    log_lanes[0] = log_lanes[1] = log_lanes[BUS_ACK_WINDOW + 200] = 5;
    for (end = 128; end <= BUS_ACK_WINDOW + 128; end += 128)
        for (uint64_t found; (found = claim_some(1, BUS_ACK_RUNNING, MOST)) > 0;)
            while (found--)
                if (offsets[found])
                    CHECK(bus_acks_settle(acks, 1, offsets[found], BUS_ACK_DONE, 0, 0));
    CHECK(bus_acks_settle(acks, 1, 0, BUS_ACK_DONE, 0, 0));
    CHECK(bus_acks_admit(acks, acks->next, log_lanes + acks->next, end - acks->next) > 0);
    CHECK(bus_acks_claim(acks, 1, BUS_ACK_RUNNING, 0, MOST, now, offsets) > 0);
    CHECK_EQUAL(acks->waiting, 1);
    CHECK_EQUAL(claim_some(1, BUS_ACK_RUNNING, MOST), 1);
    CHECK_EQUAL(offsets[0], 1);
    check_same();
}

static void all_lanes_may_be_stuck_and_records_without_a_key_go_on(void) {
    begin(2);
    for (uint64_t offset = 0; offset < RECORDS; offset++)
        log_lanes[offset] = offset % 3 ? (uint16_t)(1 + offset % BUS_ACK_LANES) : 0;
    for (end = 128; end < RECORDS; end += 128) {
        uint64_t found = claim_some(1, BUS_ACK_RUNNING, MOST);
        for (uint64_t i = 0; i < found; i++)
            if (log_lanes[offsets[i]] == 0)
                CHECK(bus_acks_settle(acks, 1, offsets[i], BUS_ACK_DONE, 0, 0));
    }
    CHECK(acks->next >= end - 128);
    CHECK_EQUAL(acks->claimants[1].held, BUS_ACK_LANES);
    CHECK_EQUAL(acks->overtaken_count, BUS_ACK_LANES);
    check_same();
}

static void too_many_stuck_records_without_a_key_hold_up_new_ones_and_no_more(void) {
    begin(3);
    for (uint64_t offset = 0; offset < RECORDS; offset++) log_lanes[offset] = offset % 2 ? 5 : 0;
    end = RECORDS;
    uint64_t stuck = 0, found, done = 0;
    while ((found = claim_some(1, BUS_ACK_RUNNING, MOST)) > 0)
        for (uint64_t i = 0; i < found; i++) {
            if (log_lanes[offsets[i]] == 0) stuck++;
            else CHECK(bus_acks_settle(acks, 1, offsets[i], BUS_ACK_DONE, 0, 0));
            done += log_lanes[offsets[i]] != 0;
        }
    CHECK(stuck >= BUS_ACK_OVERTAKEN + BUS_ACK_WINDOW / 2);
    CHECK(!bus_acks_has_more(acks, end, now));
    uint64_t before = acks->next;
    for (uint64_t offset = 0; offset < before; offset++)
        if (log_lanes[offset] == 0) bus_acks_settle(acks, 1, offset, BUS_ACK_DONE, 0, 0);
    CHECK(bus_acks_has_more(acks, end, now));
    CHECK(claim_some(1, BUS_ACK_RUNNING, MOST) > 0);
    check_same();
}

static void scribble(void) {
    uint64_t words = sizeof *acks / 8, head = offsetof(bus_acks, low) / 8;
    uint64_t lanes = offsetof(bus_acks, parked_bits) / 8, ring = offsetof(bus_acks, ring) / 8;
    for (uint64_t left = roll(40) + 1; left; left--) {
        const uint64_t places[] = {head + roll(14), lanes + roll(64 + 4 * LANES), roll(words),
                                   ring + (acks->base % BUS_ACK_WINDOW) * 4 + roll(900)};
        uint64_t at = places[roll(4)] % words;
        uint64_t value = roll(3) ? check_random(&seed) : roll(2) ? roll(BUS_ACK_WINDOW) : 0;
        if (at >= head) ((uint64_t *)acks)[at] = value;
    }
}

static void work_on(void) {
    for (int i = 0; i < 8 && bus_acks_sound(acks) && acks->next < RECORDS - 4096; i++) {
        int member = (int)roll(MEMBERS);
        bus_acks_admit(acks, acks->next, log_lanes + acks->next, roll(900));
        uint64_t found =
            bus_acks_claim(acks, member, BUS_ACK_RUNNING, 0, roll(100), now, offsets);
        CHECK(found < 100);
        for (uint64_t k = 0; k < found; k++)
            bus_acks_settle(acks, member, offsets[k], BUS_ACK_READY + roll(6), 1, now);
        uint64_t from, to;
        uint16_t lane = bus_acks_parked(acks, (uint16_t)roll(BUS_ACK_LANES), &from, &to);
        if (lane) bus_acks_unpark(acks, lane, from, from + roll(300), (int)roll(2));
        if (roll(4) == 0) bus_acks_take_back(acks, member, 1);
        if (roll(16) == 0) bus_acks_jump(acks, acks->next + roll(3 * BUS_ACK_WINDOW));
        bus_acks_has_more(acks, acks->next + 1, now);
    }
}

static void hostile_words_in_lanes_end_in_no_crash_and_no_endless_loop(void) {
    static recounted found;
    begin(77);
    for (int round = 0; round < 300; round++) {
        if (round % 10 == 0) begin(seed);
        work_on();
        scribble();
        acks->flags = BUS_ACK_KEYED;
        work_on();
        bus_acks_mend(acks);
        if (!bus_acks_sound(acks)) {
            begin(seed);
            continue;
        }
        const char *wrong = recount(acks, &found);
        if (wrong) fprintf(stderr, "after mending: %s\n", wrong);
        CHECK(wrong == NULL);
    }
}

const check_test keyed_tests[] = {
    {"a random run keeps the order of every lane", a_random_run_keeps_the_order_of_every_lane},
    {"a key that is stuck costs one place, whatever comes behind it",
     a_key_that_is_stuck_costs_one_place_whatever_comes_behind_it},
    {"a new record waits for those that are parked", a_new_record_waits_for_those_that_are_parked},
    {"all lanes may be stuck, and records without a key go on",
     all_lanes_may_be_stuck_and_records_without_a_key_go_on},
    {"too many stuck records without a key hold up new ones, and no more",
     too_many_stuck_records_without_a_key_hold_up_new_ones_and_no_more},
    {"hostile words in lanes end in no crash and no endless loop",
     hostile_words_in_lanes_end_in_no_crash_and_no_endless_loop},
    {0},
};
