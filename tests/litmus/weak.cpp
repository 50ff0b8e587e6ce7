/* weak.cpp: the core's own functions under Relacy, which explores what C11 lets other threads see.
 *
 * Each test runs two or three threads many thousand times. At every load Relacy returns any value
 * that the C11 memory model allows there, not just the newest one, and it reports accesses to plain
 * data (here `rl::var`) that nothing orders. So a release, acquire or fence that is too weak on any
 * processor shows, on whatever processor this runs.
 *
 * What it abstracts: only the words named in `watch` are seen by Relacy, all others are plain
 * memory; frames are stood for by one `rl::var` per record. It never returns values that are stored
 * later (no load buffering). Threads are explored at random, with the same seeds every time; byte
 * locks, mutexes and processes are not there. Relacy is Dmitry Vyukov's.
 */
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <iostream>
#include <pthread.h>
#include <semaphore.h>

#include "words.h"
extern "C" {
#include "durable.h"
#include "log.h"
#include "reader.h"
#include "ring.h"
#include "wait.h"
int weak_wake(bus_sleepers *sleepers, bus_bells *bells); /* inlines.c */
int weak_attached(const bus_reader *reader);
}

#include <relacy/relacy.hpp>

/* ------------------------------------------------------------------ words that Relacy sees */

enum { WORDS = 32 };
typedef rl::atomic<uint64_t> shadow;
static struct {
    const void *at;
    shadow *value;
} watched[WORDS];
static int watched_count;

static shadow *shadow_of(const void *word) {
    for (int i = 0; i < watched_count; i++)
        if (watched[i].at == word) return watched[i].value;
    return NULL;
}

/* Memory as well, for what the holder of a lock reads without a named order. */
template <typename T> static void store(T *word, T value, rl::memory_order order) {
    shadow *seen = shadow_of(word);
    *word = value;
    if (seen) seen->store(value, order, RL_INFO);
}
template <typename T> static T load(const T *word, rl::memory_order order) {
    shadow *seen = shadow_of(word);
    return seen ? (T)seen->load(order, RL_INFO) : *word;
}
template <typename T> static int swap_if(T *word, T *expected, T value) {
    shadow *seen = shadow_of(word);
    if (!seen) {
        bool same = *word == *expected;
        (same ? *word : *expected) = same ? value : *word;
        return same;
    }
    uint64_t found = *expected;
    bool done = seen->compare_exchange(rl::bool_t<false>(), found, (uint64_t)value, rl::mo_acq_rel,
                                       rl::mo_acquire, RL_INFO);
    if (done) *word = value;
    *expected = (T)found;
    return done;
}
template <rl::rmw_type_e type>
static uint64_t change(uint64_t *word, uint64_t operand, rl::memory_order order) {
    shadow *seen = shadow_of(word);
    if (!seen) abort(); /* every word of this kind is one of the pairs */
    uint64_t before = seen->rmw(rl::rmw_type_t<type>(), operand, order, RL_INFO);
    *word = type == rl::rmw_type_and ? before & operand
            : type == rl::rmw_type_or ? before | operand
            : type == rl::rmw_type_add ? before + operand : operand;
    return before;
}

extern "C" {
uint64_t bus_load_acquire(const uint64_t *word) { return load(word, rl::mo_acquire); }
uint64_t bus_load_relaxed(const uint64_t *word) { return load(word, rl::mo_relaxed); }
uint32_t bus_load32_acquire(const uint32_t *word) { return load(word, rl::mo_acquire); }
uint32_t bus_load32_relaxed(const uint32_t *word) { return load(word, rl::mo_relaxed); }
void bus_store_release(uint64_t *word, uint64_t value) { store(word, value, rl::mo_release); }
void bus_store_relaxed(uint64_t *word, uint64_t value) { store(word, value, rl::mo_relaxed); }
void bus_store32_release(uint32_t *word, uint32_t value) { store(word, value, rl::mo_release); }
void bus_store32_relaxed(uint32_t *word, uint32_t value) { store(word, value, rl::mo_relaxed); }
uint64_t bus_fetch_add(uint64_t *word, uint64_t value) {
    return change<rl::rmw_type_add>(word, value, rl::mo_acq_rel);
}
uint64_t bus_fetch_or(uint64_t *word, uint64_t bits) {
    return change<rl::rmw_type_or>(word, bits, rl::mo_seq_cst);
}
uint64_t bus_fetch_and(uint64_t *word, uint64_t bits) {
    return change<rl::rmw_type_and>(word, bits, rl::mo_seq_cst);
}
uint64_t bus_exchange(uint64_t *word, uint64_t value) {
    return change<rl::rmw_type_swap>(word, value, rl::mo_seq_cst);
}
int bus_compare_exchange(uint64_t *word, uint64_t *expected, uint64_t value) {
    return swap_if(word, expected, value);
}
int bus_compare_exchange32(uint32_t *word, uint32_t *expected, uint32_t value) {
    return swap_if(word, expected, value);
}
void bus_fence_full(void) { rl::atomic_thread_fence(rl::mo_seq_cst, RL_INFO); }
void bus_fence_acquire(void) { rl::atomic_thread_fence(rl::mo_acquire, RL_INFO); }
void bus_fence_release(void) { rl::atomic_thread_fence(rl::mo_release, RL_INFO); }
void bus_cpu_relax(void) { rl::yield(1, RL_INFO); }
}

/* ------------------------------------------------------------------------------- the stage */

static bus_partition control;
static bus_control bells_control;
static bus_bells bells;
static uint8_t *segment;
enum { FRAME = 56 }; /* of a record with a value of one to eight bytes */

struct stage {
    shadow words[WORDS];

    template <typename T> void watch(T *word) {
        words[watched_count].store(*word, rl::mo_relaxed, RL_INFO);
        watched[watched_count].at = word;
        watched[watched_count].value = &words[watched_count];
        watched_count++;
    }
    void open() {
        watched_count = 0;
        memset(&control, 0, offsetof(bus_partition, readers) + 4 * sizeof(bus_reader));
        if (!segment) segment = (uint8_t *)aligned_alloc(BUS_PAGE, BUS_MIB);
        control.hot_bytes = 2 * BUS_MIB;
        control.segment_bytes = BUS_MIB;
        control.offset_limit = UINT64_MAX >> 1;
        bus_segment_begin((bus_segment *)segment, &control, 1, 0, 0, BUS_MIB);
        control.ring[0].serial = 1;
        control.ring[0].bytes = BUS_MIB;
        control.ring_numbers[0] = 1;
        control.tail = BUS_TAIL(1, BUS_DATA_START);
        control.ends[0].tail = control.tail;
        control.ends[0].max_timestamp = INT64_MIN;
    }
};

/* ------------------------------------------------------------------------------- the pairs */

/* publish and bus_log_end: message passing, and a sequence lock of two ends. */
struct end_of_log : rl::test_suite<end_of_log, 2> {
    enum { RECORDS = 3 };
    stage at;
    rl::var<int> frame[RECORDS];

    void before() {
        at.open();
        at.watch(&control.tail);
        for (int i = 0; i < 2; i++) at.watch(&control.ends[i].tail);
        for (int i = 0; i < 2; i++) at.watch(&control.ends[i].next_offset);
    }
    void append() {
        bus_log log = {};
        log.control = &control;
        log.maps[0] = segment;
        log.map_bytes[0] = BUS_MIB;
        log.map_serials[0] = 1;
        for (int i = 0; i < RECORDS; i++) {
            bus_record record = {};
            bus_appended out = {};
            record.value = "record";
            record.value_length = 6;
            record.attributes = BUS_ATTR_NULL_KEY;
            frame[i]($) = i + 1;
            RL_ASSERT(bus_log_append(&log, &record, 1, &out) == BUS_APPENDED);
        }
    }
    void thread(unsigned index) {
        if (index == 0) return append();
        uint64_t next, tail = bus_log_end(&control, &next);
        RL_ASSERT(tail != 0);
        RL_ASSERT(BUS_TAIL_POSITION(tail) == BUS_DATA_START + next * FRAME);
        for (uint64_t i = 0; i < next; i++) RL_ASSERT(frame[i]($) == (int)i + 1);
    }
};

/* bus_publish_durable and bus_durable_end: a mark is believed with its check only. */
struct marks : rl::test_suite<marks, 2> {
    enum { SYNCS = 3 };
    stage at;
    rl::var<int> file[SYNCS + 1];

    void before() {
        at.open();
        at.watch(&control.high_watermark);
        for (int i = 0; i < 2; i++) at.watch(&control.marks[i].check);
        for (int i = 0; i < 2; i++) at.watch(&control.marks[i].offset);
    }
    void thread(unsigned index) {
        if (index == 0) {
            for (int i = 1; i <= SYNCS; i++) {
                file[i]($) = i;
                bus_publish_durable(&control, i);
            }
            return;
        }
        uint64_t waited_for = bus_load_acquire(&control.high_watermark);
        uint64_t end = bus_durable_end(&control);
        RL_ASSERT(end <= SYNCS);
        /* one mark is always whole; both may have been rewritten between the two looks */
        RL_ASSERT(waited_for <= SYNCS);
        for (uint64_t i = 1; i <= (end > waited_for ? end : waited_for); i++)
            RL_ASSERT(file[i]($) == (int)i);
    }
};

/* bus_note_lost and bus_is_lost: what was lost stays so, though its place is written again. */
struct lost : rl::test_suite<lost, 2> {
    enum { LAST = BUS_LOST_RANGES - 2 };
    stage at;

    void before() {
        at.open();
        memset(control.lost, 0, sizeof control.lost);
        for (uint64_t i = 0; i <= LAST; i++) bus_note_lost(&control, 10 * i, 10 * i + 1);
        at.watch(&control.high_watermark);
        for (int i = LAST; i < BUS_LOST_RANGES; i++) {
            at.watch(&control.lost[i].first);
            at.watch(&control.lost[i].end);
            at.watch(&control.lost[i].check);
        }
    }
    void thread(unsigned index) {
        if (index == 0) {
            for (uint64_t i = LAST + 1; i < LAST + 4; i++) {
                bus_note_lost(&control, 10 * i, 10 * i + 1);
                bus_store_release(&control.high_watermark, 10 * i + 1);
            }
            return;
        }
        bus_lost found;
        uint64_t durable = bus_load_acquire(&control.high_watermark);
        RL_ASSERT(bus_is_lost(&control, 10 * LAST, &found));
        if (durable) RL_ASSERT(bus_is_lost(&control, durable - 1, &found));
    }
};

/* bus_sleeper_set and bus_wake: store buffering. */
struct wake : rl::test_suite<wake, 2> {
    stage at;
    bus_sleepers sleepers;
    uint64_t word;
    bool sleeps;
    int rung;

    void before() {
        at.open();
        memset(&sleepers, 0, sizeof sleepers);
        memset(&bells, 0, sizeof bells);
        bells.control = &bells_control;
        word = 0;
        sleeps = false;
        rung = 0;
        at.watch(&word);
        at.watch(&sleepers.words[1]);
        at.watch(&sleepers.summary);
    }
    void thread(unsigned index) {
        if (index == 0) {
            bus_store_release(&word, 1);
            rung = weak_wake(&sleepers, &bells);
        } else {
            bus_sleeper_set(&sleepers, 70);
            sleeps = bus_load_acquire(&word) == 0;
        }
    }
    void after() { RL_ASSERT(!sleeps || rung == 1); }
};

/* bus_pin and retire: store buffering; and unpin and the next use: message passing. */
struct pin : rl::test_suite<pin, 2> {
    stage at;
    rl::var<int> bytes;

    void before() {
        at.open();
        control.flags = BUS_FLAG_DROP;
        control.ring[1].serial = 2;
        control.ring[1].bytes = BUS_MIB;
        control.ring_numbers[1] = 2;
        for (int slot = 2; slot < BUS_RING_SLOTS; slot++) { /* no free one: few loads, then it retires */
            control.ring[slot].serial = 1;
            control.ring_numbers[slot] = 1000 + slot;
        }
        control.tail = BUS_TAIL(2, BUS_DATA_START);
        bytes($) = 1;
        at.watch(&control.ring_numbers[0]);
        at.watch(&control.readers_high);
        at.watch(&control.readers[0].owner);
        at.watch(&control.readers[0].pins);
        at.watch(&control.readers[0].generation);
        at.watch(&control.readers[0].position);
    }
    void thread(unsigned index) {
        if (index == 0) {
            bus_appended out = {};
            int slot = -1;
            if (bus_ring_next(&control, 4096, &slot, &out) != BUS_APPENDED) return;
            RL_ASSERT(slot == 0);
            bytes($) = 2;
            return;
        }
        bus_reader *reader = bus_reader_attach(&control, 5, 9, 0, 0);
        RL_ASSERT(reader == &control.readers[0]);
        if (bus_pin(&control, reader, 0, 1)) return;
        RL_ASSERT(bytes($) == 1);
        bus_unpin(reader, 0);
    }
};

/* bus_reader_attach: two come for one place, a third walks over the places. */
struct attach : rl::test_suite<attach, 3> {
    stage at;
    bus_reader *got[2];

    void before() {
        at.open();
        got[0] = got[1] = NULL;
        at.watch(&control.readers_high);
        for (int i = 0; i < 2; i++) {
            bus_reader *reader = &control.readers[i];
            reader->generation = 1; /* of whoever had the place before */
            reader->pins = UINT64_MAX;
            at.watch(&reader->owner);
            at.watch(&reader->generation);
            at.watch(&reader->position);
            at.watch(&reader->pins);
        }
    }
    void thread(unsigned index) {
        if (index < 2) {
            got[index] = bus_reader_attach(&control, 10 + index, 20 + index, 0, 30 + index);
            RL_ASSERT(got[index]);
            return;
        }
        for (int i = 0; i < 2; i++) {
            const bus_reader *reader = &control.readers[i];
            if (!weak_attached(reader)) continue;
            uint64_t owner = bus_load32_relaxed(&reader->owner) - 1;
            RL_ASSERT(bus_load_relaxed(&reader->generation) == owner + 10);
            RL_ASSERT(bus_load_relaxed(&reader->position) == owner + 20);
            RL_ASSERT(bus_load_relaxed(&reader->pins) == 0);
            RL_ASSERT(bus_readers_high(&control) > (uint64_t)i);
        }
    }
    void after() { RL_ASSERT(got[0] != got[1]); }
};

/* An append and announce_stop: store buffering between `tail` and `stopping` (docs/design.md,
 * "Moving"): what the broker does in Cython and Python is written out here. */
struct move : rl::test_suite<move, 2> {
    stage at;
    bus_sleepers sleepers;
    bool acknowledged, saved;

    void before() {
        at.open();
        memset(&sleepers, 0, sizeof sleepers);
        memset(&bells, 0, sizeof bells);
        bells_control.stopping = 0;
        acknowledged = saved = false;
        at.watch(&control.tail);
        at.watch(&bells_control.stopping);
        at.watch(&sleepers.summary);
    }
    void thread(unsigned index) {
        if (index == 0) {
            bus_store_release(&control.tail, 1);
            weak_wake(&sleepers, &bells);
            acknowledged = bus_load32_relaxed(&bells_control.stopping) == 0;
        } else {
            bus_store32_release(&bells_control.stopping, 2);
            bus_fence_full();
            saved = bus_load_relaxed(&control.tail) == 1;
        }
    }
    void after() { RL_ASSERT(!acknowledged || saved); }
};

template <typename test> static void run(const char *name, const char *wanted, long rounds) {
    if (strcmp(wanted, "all") && strcmp(wanted, name)) return;
    std::ostream nowhere(NULL); /* one with a buffer would allocate with Relacy's `new` */
    rl::test_params params;
    params.iteration_count = rounds;
    params.output_stream = &nowhere;
    params.progress_stream = &nowhere;
    params.execution_depth_limit = 20000;
    bool good = rl::simulate<test>(params);
    const char *what = good ? "holds" : rl::test_result_str(params.test_result);
    printf("%s: %s after %lu rounds\n", name, what, (unsigned long)params.stop_iteration);
}

int main(int argc, char **argv) {
    const char *wanted = argc > 1 ? argv[1] : "all";
    long rounds = argc > 2 ? atol(argv[2]) : 20000;
    run<end_of_log>("end_of_log", wanted, rounds);
    run<marks>("marks", wanted, rounds);
    run<lost>("lost", wanted, rounds);
    run<wake>("wake", wanted, rounds);
    run<pin>("pin", wanted, rounds);
    run<attach>("attach", wanted, rounds);
    run<move>("move", wanted, rounds);
    return 0;
}
