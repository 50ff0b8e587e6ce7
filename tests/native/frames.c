/* frames.c: what is written as a frame is found again, and nothing else is taken for one. */
#include "check.h"
#include "frame.h"

enum { ROOM = 8192 };
#define SEED 0xfeedfacecafebeefull

static bus_record record_of(const uint8_t *data, uint32_t key, uint16_t headers, uint32_t value) {
    bus_record record = {.key = data, .key_length = key, .headers = data + key};
    record.headers_length = headers;
    record.value = data + key + headers;
    record.value_length = value;
    record.timestamp = 42;
    if (value >= BUS_ALIGNED_VALUE) record.attributes = BUS_ATTR_ALIGNED;
    record.body_crc = bus_body_crc(&record);
    return record;
}

static uint64_t write_frame(uint8_t *base, uint64_t at, const bus_record *record) {
    uint64_t size = bus_frame_bytes(at, record);
    CHECK(at + size <= ROOM);
    bus_frame_write(base, at, size, record, 9, SEED);
    return size;
}

static void every_shape_of_record_comes_back_whole(void) {
    _Alignas(64) static uint8_t base[ROOM];
    static uint8_t data[4096];
    uint64_t state = 1;
    for (size_t i = 0; i < sizeof data; i++) data[i] = (uint8_t)check_random(&state);
    for (int round = 0; round < 3000; round++) {
        uint32_t key = check_random(&state) % 100, value = check_random(&state) % 3000;
        uint16_t headers = check_random(&state) % 60;
        uint64_t at = (check_random(&state) % 100) * BUS_FRAME_ALIGN;
        bus_record record = record_of(data, key, headers, value);
        uint64_t size = write_frame(base, at, &record);
        CHECK_EQUAL(size % BUS_FRAME_ALIGN, 0);
        CHECK_EQUAL(bus_frame_check(base, at, at + size, 9, SEED, 1), BUS_FRAME_GOOD);
        const bus_frame *frame = (const bus_frame *)(base + at);
        CHECK(!memcmp(bus_frame_key(base + at), data, key));
        CHECK(!memcmp(bus_frame_headers(base + at, frame), data + key, headers));
        const uint8_t *found = bus_frame_value(base + at, frame, at);
        CHECK(!memcmp(found, data + key + headers, value));
        if (value >= BUS_ALIGNED_VALUE) CHECK_EQUAL((uintptr_t)found % BUS_VALUE_ALIGN, 0);
    }
}

/* The frame of a value in parts must be that of the same bytes in one buffer, to the last bit. */
static void parts_are_gathered_as_if_they_lay_in_one_buffer(void) {
    enum { PARTS = 4, MOST = 300 * 1024, SPACE = PARTS * (MOST + BUS_VALUE_ALIGN) };
    _Alignas(64) static uint8_t gathered[SPACE + ROOM], whole[SPACE + ROOM], joined[SPACE];
    static uint8_t data[MOST + 16];
    uint64_t state = 2;
    for (size_t i = 0; i < sizeof data; i++) data[i] = (uint8_t)check_random(&state);
    for (int round = 0; round < 60; round++) {
        bus_part parts[PARTS];
        uint64_t align = (uint64_t)1 << check_random(&state) % 7, length = 0;
        uint32_t count = check_random(&state) % (PARTS + 1);
        uint64_t most = round % 10 ? 300 : MOST; /* some are streamed around the cache */
        memset(joined, 0, PARTS * (most + BUS_VALUE_ALIGN));
        for (uint32_t i = 0; i < count; i++) {
            parts[i].data = data + check_random(&state) % 16;
            parts[i].length = check_random(&state) % most;
            parts[i].at = bus_align(length, align);
            length = parts[i].at + parts[i].length;
            memcpy(joined + parts[i].at, parts[i].data, parts[i].length);
        }
        bus_record record = {.key = data, .key_length = check_random(&state) % 50,
                             .value = joined, .value_length = (uint32_t)length,
                             .attributes = BUS_ATTR_ALIGNED, .timestamp = 42};
        uint64_t at = (check_random(&state) % 100) * BUS_FRAME_ALIGN;
        uint64_t size = bus_frame_bytes(at, &record);
        record.body_crc = bus_body_crc(&record);
        bus_frame_write(whole, at, size, &record, 9, SEED);
        record.value = NULL;
        record.parts = parts;
        record.part_count = count;
        CHECK_EQUAL(bus_body_crc(&record), record.body_crc);
        memset(gathered + at, 0xff, size);
        bus_frame_write(gathered, at, size, &record, 9, SEED);
        CHECK(!memcmp(gathered + at, whole + at, size));
        CHECK_EQUAL(bus_frame_check(gathered, at, at + size, 9, SEED, 1), BUS_FRAME_GOOD);
        const uint8_t *found = bus_frame_value(gathered + at, (bus_frame *)(gathered + at), at);
        CHECK_EQUAL((uintptr_t)found % BUS_VALUE_ALIGN, 0);
    }
}

static void one_flipped_bit_anywhere_is_noticed(void) {
    _Alignas(64) static uint8_t base[ROOM];
    static const uint8_t data[] = "a key, then a value of thirty-two bytes";
    bus_record record = record_of(data, 7, 0, 32);
    uint64_t size = write_frame(base, 0, &record);
    uint64_t covered = sizeof(bus_frame) + 7;
    for (uint64_t bit = 0; bit < 8 * size; bit++) {
        uint64_t byte = bit / 8;
        if (byte >= covered && byte < bus_align(covered, 8)) continue; /* padding */
        base[byte] ^= (uint8_t)(1 << bit % 8);
        CHECK(bus_frame_check(base, 0, size, 9, SEED, 1) != BUS_FRAME_GOOD);
        base[byte] ^= (uint8_t)(1 << bit % 8);
    }
    CHECK_EQUAL(bus_frame_check(base, 0, size, 9, SEED, 1), BUS_FRAME_GOOD);
}

static void a_frame_of_another_segment_is_not_valid_here(void) {
    _Alignas(64) static uint8_t base[ROOM];
    bus_record record = record_of((const uint8_t *)"value", 0, 0, 5);
    uint64_t size = write_frame(base, 0, &record);
    CHECK_EQUAL(bus_frame_check(base, 0, size, 9, SEED + 1, 1), BUS_FRAME_BAD_CRC);
    CHECK_EQUAL(bus_frame_check(base, 0, size, 10, SEED, 1), BUS_FRAME_BAD_OFFSET);
    CHECK_EQUAL(bus_frame_check(base, 0, size - 8, 9, SEED, 1), BUS_FRAME_BAD_SIZE);
}

static void an_end_frame_names_the_next_segment(void) {
    _Alignas(64) static uint8_t base[ROOM];
    bus_frame_write_end(base, 64, 1000, 12, SEED);
    const bus_frame *frame = (const bus_frame *)(base + 64);
    CHECK_EQUAL(bus_frame_check(base, 64, 64 + sizeof *frame, 1000, SEED, 1), BUS_FRAME_GOOD);
    CHECK_EQUAL(frame->attributes & BUS_TYPE_MASK, BUS_TYPE_END);
    CHECK_EQUAL(frame->producer, 12);
}

const check_test frame_tests[] = {
    {"every_shape_of_record_comes_back_whole", every_shape_of_record_comes_back_whole},
    {"parts_are_gathered_as_if_they_lay_in_one_buffer",
     parts_are_gathered_as_if_they_lay_in_one_buffer},
    {"one_flipped_bit_anywhere_is_noticed", one_flipped_bit_anywhere_is_noticed},
    {"a_frame_of_another_segment_is_not_valid_here", a_frame_of_another_segment_is_not_valid_here},
    {"an_end_frame_names_the_next_segment", an_end_frame_names_the_next_segment},
    {NULL, NULL},
};
