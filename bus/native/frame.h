/* frame.h: one record as bytes: written by appenders, checked by every reader. */
#ifndef BUS_FRAME_H
#define BUS_FRAME_H

#include <string.h>

#include "crc32c.h"
#include "layout.h"

typedef struct { /* one of the buffers that a value is gathered from */
    const void *data;
    uint64_t at, length; /* in the value; what no part covers is zeros, less than BUS_VALUE_ALIGN */
} bus_part;

typedef struct { /* a record to append, prepared outside the lock */
    const void *key, *headers, *value;
    const bus_part *parts; /* NULL, or what the value is gathered from: then `value` is not read */
    uint32_t part_count;
    uint32_t key_length, value_length;
    uint16_t headers_length, attributes;
    uint32_t body_crc;
    int64_t timestamp;
} bus_record;

enum bus_frame_state {
    BUS_FRAME_GOOD = 0,
    BUS_FRAME_BAD_SIZE,
    BUS_FRAME_BAD_LENGTHS,
    BUS_FRAME_BAD_CRC,
    BUS_FRAME_BAD_OFFSET,
};

static inline uint64_t bus_align(uint64_t at, uint64_t boundary) {
    return (at + boundary - 1) & ~(boundary - 1);
}

/* Where the value starts, counted from the segment's first byte like `position`. */
static inline uint64_t bus_value_position(uint64_t position, uint16_t attributes,
                                          uint32_t key_length, uint16_t headers_length) {
    uint64_t at = position + sizeof(bus_frame) + key_length + headers_length;
    return bus_align(at, attributes & BUS_ATTR_ALIGNED ? BUS_VALUE_ALIGN : BUS_FRAME_ALIGN);
}

static inline uint64_t bus_frame_bytes(uint64_t position, const bus_record *record) {
    uint64_t value = bus_value_position(position, record->attributes, record->key_length,
                                        record->headers_length);
    return bus_align(value + record->value_length, BUS_FRAME_ALIGN) - position;
}

uint32_t bus_parts_crc(uint32_t crc, const bus_record *record);

static inline uint32_t bus_body_crc(const bus_record *record) {
    uint32_t crc = 0;
    if (record->key_length) crc = bus_crc32c(crc, record->key, record->key_length);
    if (record->headers_length) crc = bus_crc32c(crc, record->headers, record->headers_length);
    if (record->value_length == 0 || record->attributes & BUS_ATTR_BARE_VALUE) return crc;
    if (record->parts) return bus_parts_crc(crc, record);
    return bus_crc32c(crc, record->value, record->value_length);
}

/* The parts of the frame at `at`, of which `header` is a copy that was checked. */
static inline const uint8_t *bus_frame_key(const uint8_t *at) { return at + sizeof(bus_frame); }
static inline const uint8_t *bus_frame_headers(const uint8_t *at, const bus_frame *header) {
    return bus_frame_key(at) + header->key_length;
}
static inline const uint8_t *bus_frame_value(const uint8_t *at, const bus_frame *header,
                                             uint64_t position) {
    return at + (bus_value_position(position, header->attributes, header->key_length,
                                    header->headers_length) - position);
}

void bus_frame_write(uint8_t *base, uint64_t position, uint64_t size, const bus_record *record,
                     uint64_t offset, uint64_t seed);
/* A pad frame of `size` bytes for records that were lost: those from `offset` to before `end`. */
void bus_frame_write_gap(uint8_t *base, uint64_t position, uint64_t size, uint64_t offset,
                         uint64_t end, uint64_t seed);
void bus_frame_write_end(uint8_t *base, uint64_t position, uint64_t next_offset,
                         uint64_t next_number, uint64_t seed);

/* Checks the frame at `position` of which no byte at or above `limit` may be trusted. `expected` is
 * the offset that must stand in it. With check_crc 0 only sizes and offset are looked at. */
enum bus_frame_state bus_frame_check(const uint8_t *base, uint64_t position, uint64_t limit,
                                     uint64_t expected, uint64_t seed, int check_crc);

/* The same. `header` is the copy that was checked, for all that follows: a wild writer may change
 * the frame the next instant, so nothing of it may be read from shared memory a second time. */
enum bus_frame_state bus_frame_read(const uint8_t *base, uint64_t position, uint64_t limit,
                                    uint64_t expected, uint64_t seed, int check_crc,
                                    bus_frame *header);
const char *bus_frame_state_text(enum bus_frame_state state);

#endif
