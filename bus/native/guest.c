#include "guest.h"

#include <string.h>

#include "atomics.h"

uint64_t bus_guest_copy(const uint8_t *base, uint64_t position, uint64_t limit,
                        uint64_t next_offset, uint8_t *target, uint64_t room, int check_crc,
                        bus_scan *out) {
    uint64_t seed = ((const bus_segment *)base)->seed;
    uint8_t *origin = target - position; /* so that positions count alike in source and copy */
    *out = (bus_scan){.end_position = position, .next_offset = next_offset,
                      .max_timestamp = INT64_MIN};
    while (out->end_position < limit) {
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
        out->error = bus_frame_check(origin, at, at + size, out->next_offset, seed, check_crc);
        if (out->error) return 0;
        const bus_frame *frame = (const bus_frame *)(origin + at); /* ours: nobody changes it */
        if ((frame->attributes & BUS_TYPE_MASK) == BUS_TYPE_END) {
            out->sealed = 1;
            return 0;
        }
        out->end_position += frame->size; /* what was checked; `size` was read before the copy */
        out->next_offset = bus_offset_after(frame, out->next_offset);
    }
    return 0;
}
