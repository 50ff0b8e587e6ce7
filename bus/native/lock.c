#define _GNU_SOURCE /* pthread_mutex_clocklock */
#include "lock.h"

#include <errno.h>
#include <time.h>

#include "atomics.h"

#define SPINS 200 /* tries before the kernel is asked: a critical section takes ~100 ns */
#define FUTEX_TID_BITS 0x3fffffffu /* linux/futex.h: above are the waiters and died flags */

int64_t bus_now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

int bus_lock_create(bus_mutex *lock) {
    pthread_mutexattr_t attributes;
    int error = pthread_mutexattr_init(&attributes);
    if (error) return error;
    error = pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
    if (!error) error = pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
    if (!error) error = pthread_mutex_init(&lock->mutex, &attributes);
    pthread_mutexattr_destroy(&attributes);
    return error;
}

static enum bus_lock_result result_of(int error) {
    switch (error) {
    case 0: return BUS_LOCK_TAKEN;
    case EOWNERDEAD: return BUS_LOCK_OWNER_DIED;
    case EBUSY:
    case ETIMEDOUT: return BUS_LOCK_BUSY;
    default: return BUS_LOCK_LOST;
    }
}

/* Shared memory that was written over may hold any kind of mutex, and glibc aborts on some. The
 * kind stands in the same word of every robust, shared mutex. */
static int is_ours(const bus_mutex *lock) {
    static int kind = -1;
    int known = __atomic_load_n(&kind, __ATOMIC_RELAXED);
    if (known < 0) {
        bus_mutex model;
        if (bus_lock_create(&model)) return 0;
        known = model.mutex.__data.__kind;
        __atomic_store_n(&kind, known, __ATOMIC_RELAXED);
    }
    return __atomic_load_n(&lock->mutex.__data.__kind, __ATOMIC_RELAXED) == known;
}

enum bus_lock_result bus_lock_nowait(bus_mutex *lock) {
    if (!is_ours(lock)) return BUS_LOCK_LOST;
    int error = pthread_mutex_trylock(&lock->mutex);
    for (int spin = 0; error == EBUSY && spin < SPINS; spin++) {
        bus_cpu_relax();
        if (bus_load32_relaxed((const uint32_t *)&lock->mutex) == 0)
            error = pthread_mutex_trylock(&lock->mutex);
    }
    if (error == EBUSY) error = pthread_mutex_trylock(&lock->mutex);
    return result_of(error);
}

enum bus_lock_result bus_lock_wait(bus_mutex *lock, int64_t timeout_ns) {
    if (!is_ours(lock)) return BUS_LOCK_LOST;
    int64_t deadline = bus_now_ns() + timeout_ns;
    struct timespec until = {.tv_sec = deadline / 1000000000, .tv_nsec = deadline % 1000000000};
    return result_of(pthread_mutex_clocklock(&lock->mutex, CLOCK_MONOTONIC, &until));
}

void bus_lock_repaired(bus_mutex *lock) { pthread_mutex_consistent(&lock->mutex); }

/* The word first: who dies in between leaves a dead holder again. */
void bus_lock_inherit(bus_mutex *lock) {
    bus_store32_release(&lock->unrepaired, 1);
    pthread_mutex_consistent(&lock->mutex);
}

void bus_lock_mended(bus_mutex *lock) { bus_store32_release(&lock->unrepaired, 0); }

int bus_lock_unrepaired(const bus_mutex *lock) {
    return bus_load32_acquire(&lock->unrepaired) != 0;
}

void bus_unlock(bus_mutex *lock) { pthread_mutex_unlock(&lock->mutex); }

int bus_lock_is_free(const bus_mutex *lock) {
    return bus_load32_relaxed((const uint32_t *)&lock->mutex) == 0;
}

/* The futex word comes first in a pthread_mutex_t of glibc and musl; a robust one holds the TID. */
uint32_t bus_lock_owner(const bus_mutex *lock) {
    return bus_load32_relaxed((const uint32_t *)&lock->mutex) & FUTEX_TID_BITS;
}
