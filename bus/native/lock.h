/* lock.h: the robust mutex: a lock that the kernel hands on when its holder dies.
 *
 * Guarantees: a killed holder never blocks anyone; the next taker learns of the death.
 * Assumes: all processes share one pid namespace (robust futexes name their owner by TID).
 */
#ifndef BUS_LOCK_H
#define BUS_LOCK_H

#include "layout.h"

enum bus_lock_result {
    BUS_LOCK_TAKEN = 0,
    BUS_LOCK_OWNER_DIED = 1, /* taken; repair what it guards, then bus_lock_repaired */
    BUS_LOCK_BUSY = 2,
    BUS_LOCK_LOST = 3,       /* unlocked unrepaired, or not a mutex at all */
};

int bus_lock_create(bus_mutex *lock);
enum bus_lock_result bus_lock_nowait(bus_mutex *lock); /* spins for about a microsecond */
enum bus_lock_result bus_lock_wait(bus_mutex *lock, int64_t timeout_ns);
void bus_lock_repaired(bus_mutex *lock);

/* Instead of bus_lock_repaired, where a repair may be given up half way: the mutex is usable at
 * once, and remembers the death until somebody says that all is mended. */
void bus_lock_inherit(bus_mutex *lock);
void bus_lock_mended(bus_mutex *lock);
int bus_lock_unrepaired(const bus_mutex *lock);

void bus_unlock(bus_mutex *lock);
int bus_lock_is_free(const bus_mutex *lock); /* nobody holds it, and nobody has died in it */
uint32_t bus_lock_owner(const bus_mutex *lock); /* thread id, 0 when free; for messages */

int64_t bus_now_ns(void); /* monotonic */

#endif
