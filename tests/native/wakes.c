/* wakes.c: whoever sleeps is woken: no lost wake-up between the last look and the sleep. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <semaphore.h>
#include <string.h>
#include <unistd.h>

#include "atomics.h"
#include "check.h"
#include "lock.h"
#include "wait.h"

#define SECOND ((int64_t)1000000000)
enum { ROUNDS = 3000, SLOT = 70 }; /* 70: not in the first word of the bitmap */

typedef struct {
    bus_control *control;
    bus_sleepers sleepers;
    uint64_t word, answer; /* what the sleeper waits for; how far it has come */
} bedroom;

static void open_bell(bus_control *control, int slot) {
    char name[BUS_BELL_NAME];
    control->clients[slot].generation = 1;
    bus_bell_name(control, slot, name);
    sem_t *bell = sem_open(name, O_CREAT | O_EXCL, 0600, 0);
    CHECK(bell != SEM_FAILED);
    sem_close(bell);
}

static void unlink_bell(bus_control *control, int slot) {
    char name[BUS_BELL_NAME];
    bus_bell_name(control, slot, name);
    CHECK(sem_unlink(name) == 0);
}

static bus_control *new_control(void) {
    bus_control *control = aligned_alloc(BUS_PAGE, sizeof *control);
    CHECK(control);
    memset(control, 0, sizeof *control);
    control->bus_id = (uint64_t)getpid();
    control->hot_id = (uint64_t)bus_now_ns();
    return control;
}

static void *sleep_and_answer(void *argument) {
    bedroom *room = argument;
    bus_bells *bells = calloc(1, sizeof *bells);
    CHECK(bells);
    bells->control = room->control;
    for (uint64_t wanted = 1; wanted <= ROUNDS; wanted++) {
        int64_t start = bus_now_ns();
        while (bus_load_acquire(&room->word) < wanted) {
            bus_sleeper_set(&room->sleepers, SLOT);
            if (bus_load_acquire(&room->word) < wanted) bus_bell_wait(bells, SLOT, 5 * SECOND);
            bus_sleeper_clear(&room->sleepers, SLOT);
        }
        CHECK(bus_now_ns() - start < 4 * SECOND); /* else only the timeout woke it */
        bus_store_release(&room->answer, wanted);
    }
    bus_bells_close(bells);
    free(bells);
    return NULL;
}

static void a_sleeper_is_woken_by_every_store(void) {
    static bedroom room;
    room.control = new_control();
    open_bell(room.control, SLOT);
    bus_bells *bells = calloc(1, sizeof *bells);
    CHECK(bells);
    bells->control = room.control;
    pthread_t sleeper;
    CHECK_EQUAL(pthread_create(&sleeper, NULL, sleep_and_answer, &room), 0);
    uint64_t state = 12;
    for (uint64_t value = 1; value <= ROUNDS; value++) {
        for (uint64_t spin = check_random(&state) % 3000; spin; spin--) bus_cpu_relax();
        bus_store_release(&room.word, value);
        bus_wake(&room.sleepers, bells);
        while (bus_load_acquire(&room.answer) < value) bus_cpu_relax();
    }
    pthread_join(sleeper, NULL);
    bus_bells_close(bells);
    free(bells);
    unlink_bell(room.control, SLOT);
    free(room.control);
}

static void all_sleepers_are_rung_and_none_twice(void) {
    static const int slots[] = {0, 1, 63, 64, 500, 1023};
    enum { COUNT = sizeof slots / sizeof *slots };
    bus_control *control = new_control();
    bus_bells *bells = calloc(1, sizeof *bells);
    bus_sleepers sleepers = {0};
    CHECK(bells);
    bells->control = control;
    for (int i = 0; i < COUNT; i++) {
        open_bell(control, slots[i]);
        bus_sleeper_set(&sleepers, slots[i]);
    }
    bus_sleeper_clear(&sleepers, 64);
    CHECK_EQUAL(bus_wake(&sleepers, bells), COUNT - 1);
    CHECK_EQUAL(bus_wake(&sleepers, bells), 0);
    for (int i = 0; i < COUNT; i++) {
        CHECK_EQUAL(bus_bell_wait(bells, slots[i], 0), slots[i] != 64);
        unlink_bell(control, slots[i]);
    }
    bus_bells_close(bells);
    free(bells);
    free(control);
}

static void ringing_for_a_client_that_is_gone_does_no_harm(void) {
    bus_control *control = new_control();
    bus_bells *bells = calloc(1, sizeof *bells);
    CHECK(bells);
    bells->control = control;
    bus_bell_ring(bells, 5);
    CHECK_EQUAL(bus_bell_wait(bells, 5, 0), -1);
    free(bells);
    free(control);
}

const check_test wake_tests[] = {
    {"a_sleeper_is_woken_by_every_store", a_sleeper_is_woken_by_every_store},
    {"all_sleepers_are_rung_and_none_twice", all_sleepers_are_rung_and_none_twice},
    {"ringing_for_a_client_that_is_gone_does_no_harm",
     ringing_for_a_client_that_is_gone_does_no_harm},
    {NULL, NULL},
};
