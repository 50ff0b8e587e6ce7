/* checksums.c: CRC-32C against published vectors, and the implementations against each other. */
#include <string.h>

#include "check.h"
#include "crc32c.h"

typedef uint32_t (*crc_function)(uint32_t, const void *, size_t);

enum { SAMPLE = 40000 };

typedef struct {
    uint8_t bytes[48];
    size_t length;
    uint32_t crc;
} vector;

/* RFC 3720, appendix B.4, and the check value of the polynomial's catalogue entry. */
static void fill_vectors(vector out[6]) {
    static const uint8_t read_command[48] = {
        0x01, 0xc0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x14, 0, 0, 0, 0, 0, 0x04, 0,
        0,    0,    0, 0x14, 0, 0, 0, 0x18, 0x28, 0, 0, 0, 0, 0, 0, 0, 0x02, 0, 0, 0, 0, 0, 0, 0};
    memset(out, 0, 6 * sizeof *out);
    out[0].length = 32, out[0].crc = 0x8a9136aa;
    memset(out[1].bytes, 0xff, 32);
    out[1].length = 32, out[1].crc = 0x62a8ab43;
    for (uint8_t i = 0; i < 32; i++) out[2].bytes[i] = i, out[3].bytes[i] = 31 - i;
    out[2].length = 32, out[2].crc = 0x46dd794e;
    out[3].length = 32, out[3].crc = 0x113fdb5c;
    memcpy(out[4].bytes, read_command, 48);
    out[4].length = 48, out[4].crc = 0xd9963a56;
    memcpy(out[5].bytes, "123456789", 9);
    out[5].length = 9, out[5].crc = 0xe3069283;
}

static void check_vectors(crc_function crc) {
    vector vectors[6];
    fill_vectors(vectors);
    for (int i = 0; i < 6; i++)
        CHECK_EQUAL(crc(0, vectors[i].bytes, vectors[i].length), vectors[i].crc);
}

static void the_table_gives_the_published_vectors(void) { check_vectors(bus_crc32c_table); }

static void the_hardware_gives_the_published_vectors(void) {
    if (bus_crc32c_has_hardware()) check_vectors(bus_crc32c_hardware);
}

static void the_chosen_one_gives_the_published_vectors(void) { check_vectors(bus_crc32c); }

static void hardware_and_table_agree_on_every_length_and_alignment(void) {
    static uint8_t sample[SAMPLE];
    uint64_t state = 1;
    if (!bus_crc32c_has_hardware()) return;
    for (size_t i = 0; i < SAMPLE; i++) sample[i] = (uint8_t)check_random(&state);
    for (size_t length = 0; length < 1600; length++) {
        const uint8_t *at = sample + length % 9;
        CHECK_EQUAL(bus_crc32c_hardware(7, at, length), bus_crc32c_table(7, at, length));
    }
    for (int round = 0; round < 200; round++) {
        size_t from = check_random(&state) % 64, length = check_random(&state) % (SAMPLE - 64);
        CHECK_EQUAL(bus_crc32c_hardware(0, sample + from, length),
                    bus_crc32c_table(0, sample + from, length));
    }
}

static void a_checksum_can_be_carried_on(void) {
    static uint8_t sample[20000];
    uint64_t state = 2;
    for (size_t i = 0; i < sizeof sample; i++) sample[i] = (uint8_t)check_random(&state);
    uint32_t whole = bus_crc32c(0, sample, sizeof sample);
    for (int round = 0; round < 100; round++) {
        size_t cut = check_random(&state) % sizeof sample;
        uint32_t first = bus_crc32c(0, sample, cut);
        CHECK_EQUAL(bus_crc32c(first, sample + cut, sizeof sample - cut), whole);
    }
}

static void a_frames_checksum_covers_all_but_itself_and_then_the_seed(void) {
    bus_frame frame;
    uint64_t state = 3, seed = 0x1122334455667788ull;
    uint8_t *bytes = (uint8_t *)&frame;
    for (size_t i = 0; i < sizeof frame; i++) bytes[i] = (uint8_t)check_random(&state);
    uint32_t wanted = bus_crc32c_table(0x1234, &frame.size, 4);
    wanted = bus_crc32c_table(wanted, &frame.offset, sizeof frame - 8);
    wanted = bus_crc32c_table(wanted, &seed, 8);
    CHECK_EQUAL(bus_crc32c_frame(0x1234, &frame, seed), wanted);
    frame.crc ^= 1;
    CHECK_EQUAL(bus_crc32c_frame(0x1234, &frame, seed), wanted);
}

const check_test checksum_tests[] = {
    {"the_table_gives_the_published_vectors", the_table_gives_the_published_vectors},
    {"the_hardware_gives_the_published_vectors", the_hardware_gives_the_published_vectors},
    {"the_chosen_one_gives_the_published_vectors", the_chosen_one_gives_the_published_vectors},
    {"hardware_and_table_agree_on_every_length_and_alignment",
     hardware_and_table_agree_on_every_length_and_alignment},
    {"a_checksum_can_be_carried_on", a_checksum_can_be_carried_on},
    {"a_frames_checksum_covers_all_but_itself_and_then_the_seed",
     a_frames_checksum_covers_all_but_itself_and_then_the_seed},
    {NULL, NULL},
};
