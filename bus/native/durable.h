/* durable.h: what the replica says of a partition, in words that vouch for themselves.
 *
 * Clients can write to the page that these words stand in, and a stray write must neither
 * acknowledge what is not on disk nor hide what was lost. So each word has a checksum, which is
 * stored last, and what does not verify is not there.
 */
#ifndef BUS_DURABLE_H
#define BUS_DURABLE_H

#include "layout.h"

/* The high watermark. Only what the replica published is believed: other bytes in its place are
 * no promise. Publishing is for the replica alone. */
void bus_publish_durable(bus_partition *control, uint64_t offset);
uint64_t bus_durable_end(const bus_partition *control);

/* The records from `first` to before `end` never become durable: noted before the watermark passes
 * them. For the replica alone. */
void bus_note_lost(bus_partition *control, uint64_t first, uint64_t end);
/* One of the BUS_LOST_RANGES ranges; 0 if there is none that verifies. */
int bus_lost_range(const bus_partition *control, int index, uint64_t *first, uint64_t *end);
/* Whether the watermark may have passed a record that is not on disk; then its whole range. */
int bus_is_lost(const bus_partition *control, uint64_t offset, bus_lost *found);

#endif
