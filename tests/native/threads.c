/* threads.c: writers, and readers who also search and copy, at the same time on one mapping.
 *
 * Threads instead of processes, because the thread sanitizer sees those. It does not model lone
 * fences, so what depends on them (pins, sleepers) is also tested by counting lost records.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <string.h>

#include "atomics.h"
#include "check.h"
#include "stage.h"

enum { WRITERS = 3, READERS = 2, PER_WRITER = 8000, BATCH = 5, TOTAL = WRITERS * PER_WRITER };

typedef struct {
    uint64_t writer, sequence;
    uint8_t filling[240];
} message;

typedef struct {
    stage *stage;
    uint64_t index;
} thread_task;

static void *write_records(void *argument) {
    thread_task *task = argument;
    bus_log log = stage_log(task->stage);
    message messages[BATCH];
    bus_record records[BATCH];
    for (uint64_t sequence = 0; sequence < PER_WRITER; sequence += BATCH) {
        uint64_t done = 0;
        for (uint64_t i = 0; i < BATCH; i++) {
            messages[i] = (message){.writer = task->index, .sequence = sequence + i};
            memset(messages[i].filling, (int)(sequence + i), sizeof messages[i].filling);
            records[i] = stage_record(&messages[i], sizeof messages[i]);
        }
        while (done < BATCH) { /* the ring may have to wait for a reader in between */
            bus_appended out;
            stage_append(task->stage, &log, records + done, BATCH - done, &out);
            done += out.done;
            if (done < BATCH) sched_yield();
        }
    }
    return NULL;
}

static void check_message(const bus_frame *frame, uint64_t position, uint64_t next[WRITERS]) {
    message found;
    memcpy(&found, bus_frame_value((const uint8_t *)frame, frame, position), sizeof found);
    CHECK(found.writer < WRITERS);
    CHECK_EQUAL(found.sequence, next[found.writer]);
    CHECK_EQUAL(found.filling[239], found.sequence & 0xff);
    next[found.writer]++;
}

/* Reads below `limit` of one pinned segment; returns where it stands then. */
static uint64_t read_segment(const uint8_t *base, uint64_t position, uint64_t limit,
                             uint64_t *offset, uint64_t next[WRITERS], int *ended) {
    uint64_t seed = ((const bus_segment *)base)->seed;
    while (position < limit && !*ended) {
        CHECK_EQUAL(bus_frame_check(base, position, limit, *offset, seed, 1), BUS_FRAME_GOOD);
        const bus_frame *frame = (const bus_frame *)(base + position);
        *ended = (frame->attributes & BUS_TYPE_MASK) == BUS_TYPE_END;
        if (*ended) break;
        check_message(frame, position, next);
        ++*offset;
        position += frame->size;
    }
    return position;
}

/* What a seek and the replica do meanwhile: search the index, copy the first frames. */
static void search_and_copy(const uint8_t *base, uint64_t limit, uint64_t offset) {
    uint8_t target[4096];
    bus_scan scan;
    uint64_t base_offset = ((const bus_segment *)base)->base_offset;
    uint64_t position = 0;
    if (offset > base_offset)
        position = bus_find_offset(base, limit, base_offset, SEED(base), offset - 1);
    CHECK(offset == base_offset || position);
    bus_copy_frames(base, BUS_DATA_START, limit, base_offset, SEED(base), target, sizeof target,
                    &scan);
    CHECK_EQUAL(scan.error, BUS_FRAME_GOOD);
}

static void *read_records(void *argument) {
    thread_task *task = argument;
    bus_partition *control = task->stage->control;
    bus_reader *reader = &control->readers[task->index];
    uint64_t number = 1, position = BUS_DATA_START, offset = 0, next[WRITERS] = {0};
    while (offset < TOTAL) {
        uint64_t end, tail = bus_log_end(control, &end);
        if (tail == BUS_TAIL(number, position)) {
            sched_yield();
            continue;
        }
        int slot = bus_slot_of(control, number), ended = 0;
        if (slot < 0 || bus_pin(control, reader, slot, number)) {
            /* It stood before the end frame of a segment that it had read: that was recycled. */
            CHECK(position != BUS_DATA_START && BUS_TAIL_NUMBER(tail) > number);
            number++, position = BUS_DATA_START;
            continue;
        }
        int active = BUS_TAIL_NUMBER(tail) == number;
        uint64_t limit = active ? BUS_TAIL_POSITION(tail) : control->ring[slot].bytes;
        position = read_segment(stage_segment(task->stage, slot), position, limit, &offset, next,
                                &ended);
        search_and_copy(stage_segment(task->stage, slot), position, offset);
        bus_unpin(reader, slot);
        bus_store_release(&reader->position, offset);
        if (ended) number++, position = BUS_DATA_START;
    }
    return NULL;
}

static void readers_see_every_record_once_and_in_order(void) {
    static stage stage;
    static thread_task tasks[WRITERS + READERS];
    pthread_t threads[WRITERS + READERS];
    stage_open(&stage, (stage_options){.hot_bytes = 4 * BUS_MIB});
    stage.control->readers_high = READERS;
    for (uint64_t i = 0; i < READERS; i++) {
        stage.control->readers[i].flags = 1;
        stage.control->readers[i].owner = (uint32_t)i + 1;
    }
    for (uint64_t i = 0; i < WRITERS + READERS; i++) {
        int writes = i < WRITERS;
        tasks[i] = (thread_task){&stage, writes ? i : i - WRITERS};
        void *(*run)(void *) = writes ? write_records : read_records;
        CHECK_EQUAL(pthread_create(&threads[i], NULL, run, &tasks[i]), 0);
    }
    for (int i = 0; i < WRITERS + READERS; i++) pthread_join(threads[i], NULL);
    CHECK_EQUAL(stage_log_end(&stage), TOTAL);
    CHECK(stage.control->recycled > 0);
    stage_close(&stage);
}

static void *watch_the_end(void *argument) {
    thread_task *task = argument;
    uint64_t last_end = 0, last_tail = 0;
    while (last_end < TOTAL) {
        uint64_t end, tail = bus_log_end(task->stage->control, &end);
        CHECK(end >= last_end && tail >= last_tail);
        int just_rolled = BUS_TAIL_POSITION(tail) == BUS_DATA_START;
        CHECK((tail == last_tail) == (end == last_end) || just_rolled);
        last_end = end;
        last_tail = tail;
    }
    return NULL;
}

static void the_end_of_the_log_is_always_consistent(void) {
    static stage stage;
    static thread_task tasks[WRITERS + 1];
    pthread_t threads[WRITERS + 1];
    stage_open(&stage, (stage_options){.flags = BUS_FLAG_DROP});
    for (uint64_t i = 0; i <= WRITERS; i++) {
        tasks[i] = (thread_task){&stage, i};
        void *(*run)(void *) = i < WRITERS ? write_records : watch_the_end;
        CHECK_EQUAL(pthread_create(&threads[i], NULL, run, &tasks[i]), 0);
    }
    for (int i = 0; i <= WRITERS; i++) pthread_join(threads[i], NULL);
    stage_close(&stage);
}

const check_test thread_tests[] = {
    {"readers_see_every_record_once_and_in_order", readers_see_every_record_once_and_in_order},
    {"the_end_of_the_log_is_always_consistent", the_end_of_the_log_is_always_consistent},
    {NULL, NULL},
};
