/* reader.h: a reader's place in a partition, taken and given back without the lock.
 *
 *     owner  0 ──compare and swap──► claimed | client + 1 ──fill──► client + 1 ──release──► 0
 *
 * Guarantees: nobody who only reads waits for the partition's lock, which a stopped process may
 * hold. A claimed place that is not filled in yet is free for producers and taken for readers.
 * Assumes: a client slot has a new holder only after the broker has reaped the places of the old.
 */
#ifndef BUS_READER_H
#define BUS_READER_H

#include "atomics.h"
#include "layout.h"

/* NULL: all places are taken. `client` is a client slot. */
bus_reader *bus_reader_attach(bus_partition *control, int client, uint64_t generation,
                              uint32_t flags, uint64_t position);
/* Under the lock: frees the places of that client, which is proven dead; how many there were.
 * claims: also those that it had only claimed; for who holds the client's byte, the broker. */
int bus_readers_reap(bus_partition *control, int client, uint64_t generation, int claims);
/* Whether a client has a place here, claimed or filled. Without the lock. */
int bus_reader_has(const bus_partition *control, int client);

/* Acquire: who sees the owner sees the words that were filled in before. */
static inline int bus_reader_attached(const bus_reader *reader) {
    uint32_t owner = bus_load32_acquire(&reader->owner);
    return owner != 0 && !(owner & BUS_READER_CLAIMED);
}

static inline uint64_t bus_readers_high(const bus_partition *control) {
    uint64_t high = bus_load_acquire(&control->readers_high);
    return high < BUS_READERS ? high : BUS_READERS;
}

#endif
