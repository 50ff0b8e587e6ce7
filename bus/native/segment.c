#include "segment.h"

#include "atomics.h"

static int is_end(const bus_frame *frame) {
    return (frame->attributes & BUS_TYPE_MASK) == BUS_TYPE_END;
}

/* Takes one checked frame into the account. A pad carries no offset; an end frame ends the walk. */
static void count_frame(const bus_frame *frame, bus_scan *out) {
    if (is_end(frame)) {
        out->sealed = 1;
        return;
    }
    out->end_position += frame->size;
    if ((frame->attributes & BUS_TYPE_MASK) == BUS_TYPE_PAD) return;
    out->next_offset++;
    if (frame->timestamp > out->max_timestamp) out->max_timestamp = frame->timestamp;
}

static void begin(bus_scan *out, uint64_t position, uint64_t next_offset) {
    *out = (bus_scan){.end_position = position, .next_offset = next_offset,
                      .max_timestamp = INT64_MIN};
}

void bus_scan_frames(const uint8_t *base, uint64_t position, uint64_t limit, uint64_t next_offset,
                     bus_scan *out) {
    uint64_t seed = ((const bus_segment *)base)->seed;
    begin(out, position, next_offset);
    while (out->end_position < limit && !out->sealed) {
        out->error = bus_frame_check(base, out->end_position, limit, out->next_offset, seed, 1);
        if (out->error) return;
        count_frame((const bus_frame *)(base + out->end_position), out);
    }
}

uint64_t bus_copy_frames(const uint8_t *base, uint64_t position, uint64_t limit,
                         uint64_t next_offset, uint8_t *target, uint64_t room, bus_scan *out) {
    uint64_t seed = ((const bus_segment *)base)->seed;
    uint8_t *origin = target - position; /* so that positions count alike in source and copy */
    begin(out, position, next_offset);
    while (out->end_position < limit && !out->sealed) {
        uint64_t at = out->end_position, left = limit - at;
        if (left < sizeof(bus_frame)) {
            out->error = BUS_FRAME_BAD_SIZE;
            return 0;
        }
        uint64_t size = bus_load32_relaxed(&((const bus_frame *)(base + at))->size);
        if (size < sizeof(bus_frame) || size > left) {
            out->error = BUS_FRAME_BAD_SIZE;
            return 0;
        }
        if (at - position + size > room) return size;
        memcpy(origin + at, base + at, size);
        out->error = bus_frame_check(origin, at, at + size, out->next_offset, seed, 1);
        if (out->error) return 0;
        if (((const bus_frame *)(origin + at))->attributes & BUS_ATTR_BARE_VALUE) {
            out->error = BUS_FRAME_BAD_CRC; /* nothing unverified becomes durable */
            return 0;
        }
        count_frame((const bus_frame *)(origin + at), out);
    }
    return 0;
}

/* An index entry is a hint: it counts only if a frame with the promised offset stands there. */
static int hint_holds(const uint8_t *base, uint64_t limit, const bus_index_entry *entry) {
    const bus_segment *segment = (const bus_segment *)base;
    uint64_t position = bus_load32_acquire(&entry->position);
    if (position < BUS_DATA_START || position >= limit || position % BUS_FRAME_ALIGN) return 0;
    return bus_frame_check(base, position, limit, segment->base_offset + entry->relative_offset,
                           segment->seed, 0) == BUS_FRAME_GOOD;
}

uint64_t bus_find_offset(const uint8_t *base, uint64_t limit, uint64_t offset) {
    const bus_segment *segment = (const bus_segment *)base;
    uint64_t position = BUS_DATA_START, at = segment->base_offset;
    for (int i = BUS_INDEX_ENTRIES - 1; i >= 0; i--) {
        const bus_index_entry *entry = &segment->index[i];
        if (bus_load32_acquire(&entry->position) == 0) continue;
        if (segment->base_offset + entry->relative_offset > offset) continue;
        bus_index_entry hint = *entry; /* a copy: it may change under a wild writer's hand */
        if (!hint_holds(base, limit, &hint)) continue;
        position = hint.position;
        at = segment->base_offset + hint.relative_offset;
        break;
    }
    while (position < limit) {
        if (bus_frame_check(base, position, limit, at, segment->seed, 0)) return 0;
        const bus_frame *frame = (const bus_frame *)(base + position);
        if (at == offset && (frame->attributes & BUS_TYPE_MASK) != BUS_TYPE_PAD) return position;
        if (is_end(frame)) return 0;
        if ((frame->attributes & BUS_TYPE_MASK) != BUS_TYPE_PAD) at++;
        position += frame->size;
    }
    return 0;
}

uint64_t bus_find_time(const uint8_t *base, uint64_t limit, int64_t timestamp, uint64_t *offset,
                       int64_t *found) {
    const bus_segment *segment = (const bus_segment *)base;
    uint64_t position = BUS_DATA_START, at = segment->base_offset;
    for (int i = BUS_INDEX_ENTRIES - 1; i >= 0; i--) {
        const bus_index_entry *entry = &segment->index[i];
        if (!hint_holds(base, limit, entry) || entry->max_timestamp >= timestamp) continue;
        position = entry->position;
        at = segment->base_offset + entry->relative_offset;
        break;
    }
    while (position < limit) {
        if (bus_frame_check(base, position, limit, at, segment->seed, 0)) return 0;
        const bus_frame *frame = (const bus_frame *)(base + position);
        if (is_end(frame)) return 0;
        if ((frame->attributes & BUS_TYPE_MASK) != BUS_TYPE_PAD) {
            *offset = at++;
            *found = frame->timestamp;
            if (frame->timestamp >= timestamp) return position;
        }
        position += frame->size;
    }
    return 0;
}

const char *bus_segment_header_error(const bus_segment *segment, uint64_t file_bytes) {
    if (file_bytes < sizeof *segment) return "the file is shorter than a segment header";
    if (segment->magic != BUS_MAGIC_SEGMENT) return "magic: this is not a segment file";
    if (segment->version != BUS_LAYOUT_VERSION) return "version: written by another layout version";
    const uint8_t *bytes = (const uint8_t *)segment;
    uint32_t crc = bus_crc32c(0, bytes + 16, offsetof(bus_segment, reserved) - 16);
    if (crc != segment->header_crc) return "header_crc: the header's checksum does not match";
    if (segment->data_start != BUS_DATA_START) return "data_start: impossible value";
    if (segment->bytes > file_bytes) return "bytes: the file is shorter than its header says";
    return NULL;
}
