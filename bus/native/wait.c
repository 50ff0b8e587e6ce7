#define _GNU_SOURCE /* sem_clockwait */
#include "wait.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "atomics.h"
#include "lock.h"

void bus_bell_name(const bus_control *control, int slot, char name[BUS_BELL_NAME]) {
    snprintf(name, BUS_BELL_NAME, "/bus-%016" PRIx64 "-%016" PRIx64 "-%d-%" PRIu64, control->bus_id,
             control->hot_id, slot, bus_load_acquire(&control->clients[slot].generation));
}

/* sem_open would make it under another name, and link it then: killed in between, it leaves a file
 * that nobody can tell from any other program's. Here a death leaves at worst a file that is too
 * short under the bell's own name, which open_own refuses and the slot's next holder removes. */
int bus_bell_create(const char *name) {
    char path[BUS_BELL_NAME + 16];
    snprintf(path, sizeof path, "/dev/shm/sem.%s", name + 1);
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0) return errno;
    sem_t bell;
    memset(&bell, 0, sizeof bell);
    sem_init(&bell, 1, 0);
    ssize_t written = write(fd, &bell, sizeof bell);
    int error = written < 0 ? errno : written < (ssize_t)sizeof bell ? ENOSPC : 0;
    close(fd);
    if (error) unlink(path);
    return error;
}

static void forget(bus_bells *bells, int slot) {
    if (bells->semaphores[slot]) munmap(bells->semaphores[slot], sizeof(sem_t));
    bells->semaphores[slot] = NULL;
}

/* A named semaphore is a file in /dev/shm, where everybody may put one. sem_open maps whatever has
 * the name; another user's file could be cut short under us, and kill us with SIGBUS. So the file
 * is opened here, looked at, and mapped as sem_open would map it. */
static sem_t *open_own(const char *name) {
    char path[BUS_BELL_NAME + 16];
    snprintf(path, sizeof path, "/dev/shm/sem.%s", name + 1);
    int fd = open(path, O_RDWR | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) return NULL;
    struct stat status;
    void *at = MAP_FAILED;
    if (fstat(fd, &status) == 0 && S_ISREG(status.st_mode) && status.st_uid == geteuid() &&
        !(status.st_mode & 077) && status.st_size >= (off_t)sizeof(sem_t))
        at = mmap(NULL, sizeof(sem_t), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    return at == MAP_FAILED ? NULL : at;
}

sem_t *bus_bell(bus_bells *bells, int slot) {
    const bus_client *client = &bells->control->clients[slot];
    uint64_t generation = bus_load_acquire(&client->generation);
    if (bells->semaphores[slot] && bells->generations[slot] == generation)
        return bells->semaphores[slot];
    forget(bells, slot);
    char name[BUS_BELL_NAME];
    bus_bell_name(bells->control, slot, name);
    sem_t *semaphore = open_own(name);
    if (!semaphore) return NULL;
    bells->semaphores[slot] = semaphore;
    bells->generations[slot] = generation;
    return semaphore;
}

void bus_bell_ring(bus_bells *bells, int slot) {
    sem_t *semaphore = bus_bell(bells, slot);
    int value;
    /* A bell that nobody answers must not count up to SEM_VALUE_MAX. */
    if (semaphore && sem_getvalue(semaphore, &value) == 0 && value < 2) sem_post(semaphore);
}

int bus_bell_wait(bus_bells *bells, int slot, int64_t timeout_ns) {
    /* One's own bell is opened once. If the slot has another holder by now, this client was closed:
       the bell stays mapped, because other threads may be in the middle of a wait for it. */
    uint64_t generation = bus_load_acquire(&bells->control->clients[slot].generation);
    if (bells->semaphores[slot] && bells->generations[slot] != generation) return -1;
    sem_t *semaphore = bus_bell(bells, slot);
    if (!semaphore) return -1;
    int64_t deadline = bus_now_ns() + timeout_ns;
    struct timespec until = {.tv_sec = deadline / 1000000000, .tv_nsec = deadline % 1000000000};
    return sem_clockwait(semaphore, CLOCK_MONOTONIC, &until) == 0;
}

void bus_bells_close(bus_bells *bells) {
    for (int slot = 0; slot < BUS_CLIENTS; slot++) forget(bells, slot);
}

void bus_sleeper_set(bus_sleepers *sleepers, int slot) {
    bus_fetch_or(&sleepers->words[slot / 64], (uint64_t)1 << slot % 64);
    bus_fetch_or(&sleepers->summary, (uint64_t)1 << slot / 64);
    bus_fence_full(); /* pairs with the fence in bus_wake */
}

/* The summary bit stays: clearing it could hide a neighbour. The next waker clears it. */
void bus_sleeper_clear(bus_sleepers *sleepers, int slot) {
    bus_fetch_and(&sleepers->words[slot / 64], ~((uint64_t)1 << slot % 64));
}

int bus_wake_sleepers(bus_sleepers *sleepers, bus_bells *bells) {
    int rung = 0;
    uint64_t summary = bus_load_relaxed(&sleepers->summary);
    for (; summary; summary &= summary - 1) {
        int word = __builtin_ctzll(summary);
        if (word >= BUS_CLIENTS / 64) break;
        bus_fetch_and(&sleepers->summary, ~((uint64_t)1 << word)); /* before the words are taken */
        for (uint64_t bits = bus_exchange(&sleepers->words[word], 0); bits; bits &= bits - 1) {
            bus_bell_ring(bells, word * 64 + __builtin_ctzll(bits));
            rung++;
        }
    }
    return rung;
}
