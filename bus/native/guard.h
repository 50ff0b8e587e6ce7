/* guard.h: a mapped file that somebody truncates must not kill who looks into it.
 *
 * A load or store behind the end of a mapped file raises SIGBUS. One handler for the process lays
 * an anonymous page of zeros over the page that is gone, marks the mapping as damaged, and lets the
 * instruction run again. Zeros are no valid frame, so a reader finds the damage by its checksum;
 * a writer looks at the mark before it publishes. (The way of systemd's journald.)
 *
 * Guarantees: only pages of registered mappings are touched; every other SIGBUS goes on to the
 * handler that was there before, or kills as it would have. The handler takes no lock, allocates
 * nothing, and calls mmap, sigaction and raise alone. It lives on in forked children, as the
 * mappings do.
 * Assumes: a mapping is registered before anybody looks into it, and taken out before it is
 * unmapped. Who installs a handler afterwards and does not pass the signal on, takes the guard
 * away until this process maps its next file.
 */
#ifndef BUS_GUARD_H
#define BUS_GUARD_H

#include <stdint.h>

/* As many as the kernel allows mappings, by default (vm.max_map_count). */
#define BUS_GUARDS 65536

/* Registers a mapping: its place in the registry, or -1 when that is full. */
int bus_guard_add(const void *base, uint64_t bytes, int writable);
void bus_guard_remove(int place);
/* The mark: 0 as long as every page that was looked at was there. */
const uint32_t *bus_guard_mark(int place);

#endif
