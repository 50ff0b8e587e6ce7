/* ring.h: which hot file comes next: growing, recycling, and what the broker should prepare. */
#ifndef BUS_RING_H
#define BUS_RING_H

#include "log.h"

uint64_t bus_ring_target(const bus_partition *control); /* bytes of a full-grown hot segment */
uint64_t bus_ring_total(const bus_partition *control);  /* bytes of all files in the ring */
int bus_ring_available(const bus_partition *control, uint64_t need); /* best free slot or -1 */

int bus_ring_oldest(const bus_partition *control); /* slot of the oldest sealed segment or -1 */

/* A slot for the next segment, retired from the window if need be; or why there is none. */
enum bus_append_status bus_ring_next(bus_partition *control, uint64_t need, int *slot,
                                     bus_appended *out);
/* Bytes of the file the broker should add now; 0: none. */
uint64_t bus_ring_wanted(const bus_partition *control, uint64_t need);
/* Puts a file into a free slot: 0, or -1 when all of them are in use. */
int bus_ring_add(bus_partition *control, uint64_t serial, uint64_t bytes);
/* Takes one useless file out of the ring (too small, pinned, over the limit): serial, or 0. */
uint64_t bus_ring_drop_surplus(bus_partition *control, uint64_t need);

#endif
