/* wait.h: sleeping until a shared word says otherwise, and waking those who sleep.
 *
 * A sleeper sets its bit, fences, looks at the word again, and only then waits on its doorbell. A
 * waker stores the word, fences, and looks for bits. So either the sleeper sees the new word or the
 * waker sees the bit. Doorbells are semaphores: a lost or an extra post costs time, never truth.
 */
#ifndef BUS_WAIT_H
#define BUS_WAIT_H

#include <semaphore.h>

#include "atomics.h"
#include "layout.h"

typedef struct { /* open doorbells of other clients, by slot */
    bus_control *control;
    sem_t *semaphores[BUS_CLIENTS];
    uint64_t generations[BUS_CLIENTS]; /* of the client that the semaphore belongs to */
} bus_bells;

enum { BUS_BELL_NAME = 80 };
void bus_bell_name(const bus_control *control, int slot, char name[BUS_BELL_NAME]);

/* Makes a doorbell that nobody has rung. 0, or an errno; then there is none. */
int bus_bell_create(const char *name);
sem_t *bus_bell(bus_bells *bells, int slot); /* NULL: the client is gone */
void bus_bell_ring(bus_bells *bells, int slot);
/* 1: rung, 0: timeout or interrupted by a signal, -1: there is no such doorbell. */
int bus_bell_wait(bus_bells *bells, int slot, int64_t timeout_ns);
void bus_bells_close(bus_bells *bells);

void bus_sleeper_set(bus_sleepers *sleepers, int slot); /* ends with a full fence */
void bus_sleeper_clear(bus_sleepers *sleepers, int slot);
int bus_wake_sleepers(bus_sleepers *sleepers, bus_bells *bells);

/* To be called after the store that the sleepers wait for. Returns how many were rung. */
static inline int bus_wake(bus_sleepers *sleepers, bus_bells *bells) {
    bus_fence_full(); /* pairs with the fence in bus_sleeper_set */
    return bus_load_relaxed(&sleepers->summary) ? bus_wake_sleepers(sleepers, bells) : 0;
}

#endif
