/* guest.h: copying frames out of a read-only mapping that may be recycled meanwhile. */
#ifndef BUS_GUEST_H
#define BUS_GUEST_H

#include "segment.h"

/* Copies whole frames from `position` to `target`, as many as fit `room`, and checks each copy.
 * The copies are believed only if the caller finds the ring slot's number unchanged afterwards. An
 * end frame is not copied: it sets out->sealed. Returns the size of a frame that did not fit, or 0.
 */
uint64_t bus_guest_copy(const uint8_t *base, uint64_t position, uint64_t limit,
                        uint64_t next_offset, uint8_t *target, uint64_t room, int check_crc,
                        bus_scan *out);

#endif
