/* crc32c.h: CRC-32C (Castagnoli, reflected polynomial 0x82f63b78), as in RFC 3720.
 *
 * A CRC is carried on by passing it back in: crc32c(crc32c(0, a), b) == crc32c(0, a followed by b).
 */
#ifndef BUS_CRC32C_H
#define BUS_CRC32C_H

#include <stddef.h>
#include <stdint.h>

#include "layout.h"

extern uint32_t (*bus_crc32c)(uint32_t crc, const void *data, size_t length);

/* Carries a body's CRC over the frame header (all but the CRC word) and the segment's seed. */
extern uint32_t (*bus_crc32c_frame)(uint32_t body_crc, const bus_frame *frame, uint64_t seed);

uint32_t bus_crc32c_table(uint32_t crc, const void *data, size_t length);
uint32_t bus_crc32c_hardware(uint32_t crc, const void *data, size_t length);
int bus_crc32c_has_hardware(void);

#endif
