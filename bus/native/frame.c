#include "frame.h"

#include "atomics.h"

#if defined(__x86_64__)
#include <emmintrin.h>
#endif

/* Values from here on are written around the cache. The lines of a ring of many MiB are not in the
 * writer's cache anyway: an ordinary store would first read each one that it overwrites. */
#define STREAM_BYTES (256 * 1024)

static inline void copy_value(uint8_t *to, const uint8_t *from, uint64_t bytes) {
#if defined(__x86_64__)
    if (bytes >= STREAM_BYTES) {
        uint64_t before = -(uintptr_t)to % 64; /* a part may begin anywhere, a stream may not */
        memcpy(to, from, before);
        to += before, from += before, bytes -= before;
        for (; bytes >= 64; to += 64, from += 64, bytes -= 64)
            for (int i = 0; i < 64; i += 16)
                _mm_stream_si128((__m128i *)(to + i), _mm_loadu_si128((const __m128i *)(from + i)));
        _mm_sfence(); /* streaming stores heed no release: they must be out before the tail is */
    }
#endif
    memcpy(to, from, bytes);
}

static void zero(uint8_t *from, const uint8_t *to) {
    while (from < to) *from++ = 0;
}

/* The checksum of the gathered value, without gathering it. */
uint32_t bus_parts_crc(uint32_t crc, const bus_record *record) {
    static const uint8_t zeros[BUS_VALUE_ALIGN];
    uint64_t at = 0;
    for (uint32_t i = 0; i < record->part_count; i++) {
        const bus_part *part = &record->parts[i];
        crc = bus_crc32c(crc, zeros, part->at - at);
        crc = bus_crc32c(crc, part->data, part->length);
        at = part->at + part->length;
    }
    return crc;
}

/* Each byte of a part is copied once, to where readers find it. Kept out of the way of values that
 * lie in one buffer. */
static __attribute__((noinline, cold)) void gather(uint8_t *value, const bus_record *record) {
    uint8_t *at = value;
    for (uint32_t i = 0; i < record->part_count; i++) {
        const bus_part *part = &record->parts[i];
        zero(at, value + part->at);
        copy_value(value + part->at, part->data, part->length);
        at = value + part->at + part->length;
    }
}

void bus_frame_write(uint8_t *base, uint64_t position, uint64_t size, const bus_record *record,
                     uint64_t offset, uint64_t seed) {
    bus_frame *frame = (bus_frame *)(base + position);
    uint8_t *at = (uint8_t *)(frame + 1);
    frame->size = (uint32_t)size;
    frame->offset = offset;
    frame->timestamp = record->timestamp;
    frame->value_length = record->value_length;
    frame->attributes = record->attributes;
    frame->headers_length = record->headers_length;
    frame->key_length = record->key_length;
    frame->sequence = 0;
    frame->producer = 0;
    if (record->key_length) memcpy(at, record->key, record->key_length);
    at += record->key_length;
    if (record->headers_length) memcpy(at, record->headers, record->headers_length);
    at += record->headers_length;
    uint8_t *value = base + bus_value_position(position, record->attributes, record->key_length,
                                               record->headers_length);
    zero(at, value);
    if (record->parts)
        gather(value, record);
    else if (record->value_length)
        copy_value(value, record->value, record->value_length);
    zero(value + record->value_length, base + position + size);
    frame->crc = bus_crc32c_frame(record->body_crc, frame, seed);
}

void bus_frame_write_end(uint8_t *base, uint64_t position, uint64_t next_offset,
                         uint64_t next_number, uint64_t seed) {
    bus_frame *frame = (bus_frame *)(base + position);
    memset(frame, 0, sizeof *frame);
    frame->size = sizeof *frame;
    frame->offset = next_offset;
    frame->attributes = BUS_TYPE_END | BUS_ATTR_NULL_KEY | BUS_ATTR_NULL_VALUE;
    frame->producer = next_number;
    frame->crc = bus_crc32c_frame(0, frame, seed);
}

void bus_frame_write_gap(uint8_t *base, uint64_t position, uint64_t size, uint64_t offset,
                         uint64_t end, uint64_t seed) {
    bus_frame *frame = (bus_frame *)(base + position);
    memset(frame, 0, size);
    bus_record nothing = {
        .value = frame + 1,
        .value_length = (uint32_t)(size - sizeof *frame),
        .attributes = BUS_TYPE_PAD | BUS_ATTR_NULL_KEY | BUS_ATTR_NULL_VALUE,
    };
    frame->size = (uint32_t)size;
    frame->offset = offset;
    frame->value_length = nothing.value_length;
    frame->attributes = nothing.attributes;
    frame->producer = end;
    frame->crc = bus_crc32c_frame(bus_body_crc(&nothing), frame, seed);
}

enum bus_frame_state bus_frame_check(const uint8_t *base, uint64_t position, uint64_t limit,
                                     uint64_t expected, uint64_t seed, int check_crc) {
    bus_frame header;
    return bus_frame_read(base, position, limit, expected, seed, check_crc, &header);
}

enum bus_frame_state bus_frame_read(const uint8_t *base, uint64_t position, uint64_t limit,
                                    uint64_t expected, uint64_t seed, int check_crc,
                                    bus_frame *header) {
    if (limit < sizeof(bus_frame) || position > limit - sizeof(bus_frame))
        return BUS_FRAME_BAD_SIZE;
    memcpy(header, base + position, sizeof *header);
    bus_compiler_fence(); /* no value of it is loaded again from where it came from */
    if (header->size < sizeof *header || header->size % BUS_FRAME_ALIGN ||
        header->size > limit - position)
        return BUS_FRAME_BAD_SIZE;
    uint64_t value = bus_value_position(position, header->attributes, header->key_length,
                                        header->headers_length);
    if (bus_align(value + header->value_length, BUS_FRAME_ALIGN) != position + header->size)
        return BUS_FRAME_BAD_LENGTHS;
    if (header->offset != expected) return BUS_FRAME_BAD_OFFSET;
    if (!check_crc) return BUS_FRAME_GOOD;
    bus_record body = {
        .key = base + position + sizeof *header,
        .headers = base + position + sizeof *header + header->key_length,
        .value = base + value,
        .key_length = header->key_length,
        .headers_length = header->headers_length,
        .value_length = header->value_length,
        .attributes = header->attributes,
    };
    uint32_t crc = bus_crc32c_frame(bus_body_crc(&body), header, seed);
    return crc == header->crc ? BUS_FRAME_GOOD : BUS_FRAME_BAD_CRC;
}

const char *bus_frame_state_text(enum bus_frame_state state) {
    switch (state) {
    case BUS_FRAME_GOOD: return "good";
    case BUS_FRAME_BAD_SIZE: return "impossible frame size";
    case BUS_FRAME_BAD_LENGTHS: return "key, headers and value do not fit the frame";
    case BUS_FRAME_BAD_CRC: return "checksum does not match";
    case BUS_FRAME_BAD_OFFSET: return "unexpected offset";
    }
    return "unknown";
}
