#include "segment.h"

#include "atomics.h"

static int is_end(const bus_frame *frame) {
    return (frame->attributes & BUS_TYPE_MASK) == BUS_TYPE_END;
}

static int is_pad(const bus_frame *frame) {
    return (frame->attributes & BUS_TYPE_MASK) == BUS_TYPE_PAD;
}

uint64_t bus_offset_after(const bus_frame *frame, uint64_t offset) {
    if (is_end(frame)) return offset;
    if (!is_pad(frame)) return offset + 1;
    return frame->producer > offset ? frame->producer : offset;
}

/* Takes one checked frame into the account. A pad carries no offset; an end frame ends the walk. */
static void count_frame(const bus_frame *frame, bus_scan *out) {
    if (is_end(frame)) {
        out->sealed = 1;
        return;
    }
    out->end_position += frame->size;
    out->next_offset = bus_offset_after(frame, out->next_offset);
    if (is_pad(frame)) return;
    if (frame->timestamp > out->max_timestamp) out->max_timestamp = frame->timestamp;
}

static void begin(bus_scan *out, uint64_t position, uint64_t next_offset) {
    *out = (bus_scan){.end_position = position, .next_offset = next_offset,
                      .max_timestamp = INT64_MIN};
}

void bus_scan_frames(const uint8_t *base, uint64_t position, uint64_t limit, uint64_t next_offset,
                     uint64_t seed, bus_scan *out) {
    begin(out, position, next_offset);
    bus_frame frame;
    while (out->end_position < limit && !out->sealed) {
        out->error = bus_frame_read(base, out->end_position, limit, out->next_offset, seed, 1,
                                    &frame);
        if (out->error) return;
        count_frame(&frame, out);
    }
}

uint64_t bus_copy_frames(const uint8_t *base, uint64_t position, uint64_t limit,
                         uint64_t next_offset, uint64_t seed, uint8_t *target, uint64_t room,
                         bus_scan *out) {
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

/* Headers of frames stand on multiples of 8. Sizes and lengths that contradict each other, which
 * nearly all wrong places have, cost no checksum. */
uint64_t bus_find_good(const uint8_t *base, uint64_t from, uint64_t limit, uint64_t least,
                       uint64_t most, uint64_t seed, uint64_t *offset) {
    for (uint64_t at = bus_align(from, BUS_FRAME_ALIGN); at + sizeof(bus_frame) <= limit;
         at += BUS_FRAME_ALIGN) {
        const bus_frame *frame = (const bus_frame *)(base + at);
        uint64_t found = bus_load_relaxed(&frame->offset);
        if (bus_load32_relaxed(&frame->size) == 0 || found < least || found > most) continue;
        if (bus_frame_check(base, at, limit, found, seed, 1) != BUS_FRAME_GOOD) continue;
        *offset = found;
        return at;
    }
    return 0;
}

/* A copy, for the entry may change under a wild writer's hand. */
static bus_index_entry hint_of(const bus_segment *segment, int i) {
    bus_index_entry hint = {.position = bus_load32_acquire(&segment->index[i].position)};
    if (hint.position == 0) return hint; /* the rest may be in the making */
    hint.relative_offset = bus_load32_relaxed(&segment->index[i].relative_offset);
    const uint64_t *timestamp = (const uint64_t *)&segment->index[i].max_timestamp;
    hint.max_timestamp = (int64_t)bus_load_relaxed(timestamp);
    return hint;
}

/* An index entry is a hint: it counts only if a frame with the promised offset stands there. */
static int hint_holds(const uint8_t *base, uint64_t limit, const bus_index_entry *entry,
                      uint64_t base_offset, uint64_t seed) {
    uint64_t position = entry->position;
    if (position < BUS_DATA_START || position >= limit || position % BUS_FRAME_ALIGN) return 0;
    return bus_frame_check(base, position, limit, base_offset + entry->relative_offset, seed, 0) ==
           BUS_FRAME_GOOD;
}

int bus_bad_index_entry(const uint8_t *base, uint64_t limit, uint64_t base_offset, uint64_t seed) {
    const bus_segment *segment = (const bus_segment *)base;
    for (int i = 0; i < BUS_INDEX_ENTRIES; i++) {
        bus_index_entry hint = hint_of(segment, i);
        if (hint.position == 0) continue;
        if (!hint_holds(base, limit, &hint, base_offset, seed)) return i;
    }
    return -1;
}

uint64_t bus_find_offset(const uint8_t *base, uint64_t limit, uint64_t base_offset, uint64_t seed,
                         uint64_t offset) {
    const bus_segment *segment = (const bus_segment *)base;
    uint64_t position = BUS_DATA_START, at = base_offset;
    for (int i = BUS_INDEX_ENTRIES - 1; i >= 0; i--) {
        bus_index_entry hint = hint_of(segment, i);
        if (hint.position == 0 || base_offset + hint.relative_offset > offset) continue;
        if (!hint_holds(base, limit, &hint, base_offset, seed)) continue;
        position = hint.position;
        at = base_offset + hint.relative_offset;
        break;
    }
    bus_frame frame;
    while (position < limit) {
        if (bus_frame_read(base, position, limit, at, seed, 0, &frame)) {
            if (at == offset) /* the frame that is wanted, and it is damaged */
                return position + sizeof(bus_frame) <= limit ? position : 0;
            position = bus_find_good(base, position, limit, at, offset, seed, &at);
            if (position == 0 || bus_frame_read(base, position, limit, at, seed, 0, &frame))
                return 0;
        }
        uint64_t after = bus_offset_after(&frame, at);
        if (at == offset && !(is_pad(&frame) && after == at)) return position;
        if (after > offset) return position; /* in a gap */
        if (is_end(&frame)) return 0;
        at = after;
        position += frame.size;
    }
    return 0;
}

uint64_t bus_find_time(const uint8_t *base, uint64_t limit, int64_t timestamp, uint64_t *offset,
                       int64_t *found) {
    const bus_segment *segment = (const bus_segment *)base;
    uint64_t position = BUS_DATA_START, at = segment->base_offset, seed = segment->seed;
    for (int i = BUS_INDEX_ENTRIES - 1; i >= 0; i--) {
        bus_index_entry hint = hint_of(segment, i);
        if (hint.max_timestamp >= timestamp || !hint_holds(base, limit, &hint, at, seed)) continue;
        position = hint.position;
        at += hint.relative_offset;
        break;
    }
    bus_frame frame;
    while (position < limit) {
        if (bus_frame_read(base, position, limit, at, seed, 0, &frame)) {
            position = bus_find_good(base, position, limit, at, UINT64_MAX, seed, &at);
            if (position == 0 || bus_frame_read(base, position, limit, at, seed, 0, &frame))
                return 0;
        }
        if (is_end(&frame)) return 0;
        if (!is_pad(&frame)) {
            *offset = at;
            *found = frame.timestamp;
            if (frame.timestamp >= timestamp) return position;
        }
        at = bus_offset_after(&frame, at);
        position += frame.size;
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
    if (segment->bytes > UINT32_MAX) return "bytes: more than any segment has";
    if (segment->bytes > file_bytes) return "bytes: the file is shorter than its header says";
    return NULL;
}
