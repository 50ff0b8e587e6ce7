/* crc32c.c: three implementations of one checksum, the fastest chosen when the library is loaded.
 *
 * The CRC instruction has a latency of three cycles and a throughput of one, so long inputs are cut
 * into three streams that run side by side. Their results are joined by multiplying with x^(8n),
 * done with four table look-ups; the idea of the interleave is Mark Adler's (crc32c.c, 2013).
 */
#include "crc32c.h"

#include <string.h>

#if defined(__x86_64__)
#include <nmmintrin.h>
#define HARDWARE __attribute__((target("sse4.2")))
#define CRC_STEP8(crc, byte) ((uint64_t)_mm_crc32_u8((uint32_t)(crc), (byte)))
#define CRC_STEP64(crc, word) _mm_crc32_u64((crc), (word))
#elif defined(__aarch64__)
#include <arm_acle.h>
#include <sys/auxv.h>
#ifndef HWCAP_CRC32
#define HWCAP_CRC32 (1 << 7)
#endif
#define HARDWARE __attribute__((target("+crc")))
#define CRC_STEP8(crc, byte) ((uint64_t)__crc32cb((uint32_t)(crc), (byte)))
#define CRC_STEP64(crc, word) ((uint64_t)__crc32cd((uint32_t)(crc), (word)))
#endif

enum { STREAM_LONG = 4096, STREAM_SHORT = 256 };
#define POLYNOMIAL 0x82f63b78u

static uint32_t by_byte[8][256];          /* slicing-by-8 tables of the portable version */
static uint32_t shift_long[4][256];       /* multiplies a CRC by x^(8 * STREAM_LONG) */
static uint32_t shift_short[4][256];

static uint64_t load64(const uint8_t *at) {
    uint64_t word;
    memcpy(&word, at, 8);
    return word;
}

uint32_t bus_crc32c_table(uint32_t crc, const void *data, size_t length) {
    const uint8_t *at = data;
    uint32_t state = ~crc;
    for (; length >= 8; at += 8, length -= 8) {
        uint64_t word = load64(at) ^ state;
        state = 0;
        for (int byte = 0; byte < 8; byte++)
            state ^= by_byte[7 - byte][(word >> (8 * byte)) & 0xff];
    }
    for (; length; at++, length--) state = (state >> 8) ^ by_byte[0][(state ^ *at) & 0xff];
    return ~state;
}

static uint32_t frame_crc_table(uint32_t body_crc, const bus_frame *frame, uint64_t seed) {
    uint32_t crc = bus_crc32c_table(body_crc, &frame->size, 4);
    crc = bus_crc32c_table(crc, &frame->offset, sizeof *frame - 8);
    return bus_crc32c_table(crc, &seed, 8);
}

#ifdef HARDWARE
static inline uint32_t shifted(uint32_t table[4][256], uint32_t crc) {
    return table[0][crc & 0xff] ^ table[1][(crc >> 8) & 0xff] ^ table[2][(crc >> 16) & 0xff] ^
           table[3][crc >> 24];
}

/* Three streams of `stream` bytes each; stream is a compile-time constant in every caller. */
HARDWARE static inline uint64_t three_streams(uint64_t state, const uint8_t *at, size_t stream,
                                              uint32_t table[4][256]) {
    uint64_t second = 0, third = 0;
    for (size_t i = 0; i < stream; i += 8) {
        state = CRC_STEP64(state, load64(at + i));
        second = CRC_STEP64(second, load64(at + stream + i));
        third = CRC_STEP64(third, load64(at + 2 * stream + i));
    }
    state = shifted(table, (uint32_t)state) ^ (uint32_t)second;
    return shifted(table, (uint32_t)state) ^ (uint32_t)third;
}

HARDWARE uint32_t bus_crc32c_hardware(uint32_t crc, const void *data, size_t length) {
    const uint8_t *at = data;
    uint64_t state = ~crc;
    for (; length >= 3 * STREAM_LONG; at += 3 * STREAM_LONG, length -= 3 * STREAM_LONG)
        state = three_streams(state, at, STREAM_LONG, shift_long);
    for (; length >= 3 * STREAM_SHORT; at += 3 * STREAM_SHORT, length -= 3 * STREAM_SHORT)
        state = three_streams(state, at, STREAM_SHORT, shift_short);
    for (; length >= 8; at += 8, length -= 8) state = CRC_STEP64(state, load64(at));
    for (; length; at++, length--) state = CRC_STEP8(state, *at);
    return ~(uint32_t)state;
}

HARDWARE static uint32_t frame_crc_hardware(uint32_t body_crc, const bus_frame *frame,
                                            uint64_t seed) {
    const uint8_t *bytes = (const uint8_t *)frame;
    uint64_t state = ~body_crc;
    for (size_t i = 0; i < 4; i++) state = CRC_STEP8(state, bytes[i]);
    for (size_t i = 8; i < sizeof *frame; i += 8) state = CRC_STEP64(state, load64(bytes + i));
    return ~(uint32_t)CRC_STEP64(state, seed);
}
#else
uint32_t bus_crc32c_hardware(uint32_t crc, const void *data, size_t length) {
    return bus_crc32c_table(crc, data, length);
}
#endif

int bus_crc32c_has_hardware(void) {
#if defined(__x86_64__)
    return __builtin_cpu_supports("sse4.2") != 0;
#elif defined(__aarch64__)
    return (getauxval(AT_HWCAP) & HWCAP_CRC32) != 0;
#else
    return 0;
#endif
}

static uint32_t zeros_appended(uint32_t state, size_t bytes) {
    for (; bytes; bytes--) state = (state >> 8) ^ by_byte[0][state & 0xff];
    return state;
}

static void fill_shift(uint32_t table[4][256], size_t bytes) {
    uint32_t bit[32]; /* the operator is linear: 32 single bits say all */
    for (int i = 0; i < 32; i++) bit[i] = zeros_appended(1u << i, bytes);
    for (int byte = 0; byte < 4; byte++)
        for (int value = 0; value < 256; value++) {
            uint32_t sum = 0;
            for (int i = 0; i < 8; i++)
                if (value >> i & 1) sum ^= bit[8 * byte + i];
            table[byte][value] = sum;
        }
}

uint32_t (*bus_crc32c)(uint32_t, const void *, size_t) = bus_crc32c_table;
uint32_t (*bus_crc32c_frame)(uint32_t, const bus_frame *, uint64_t) = frame_crc_table;

__attribute__((constructor)) static void choose_implementation(void) {
    for (uint32_t value = 0; value < 256; value++) {
        uint32_t state = value;
        for (int bit = 0; bit < 8; bit++) state = (state >> 1) ^ (state & 1 ? POLYNOMIAL : 0);
        by_byte[0][value] = state;
    }
    for (int slice = 1; slice < 8; slice++)
        for (int value = 0; value < 256; value++)
            by_byte[slice][value] = zeros_appended(by_byte[slice - 1][value], 1);
#ifdef HARDWARE
    if (!bus_crc32c_has_hardware()) return;
    fill_shift(shift_long, STREAM_LONG);
    fill_shift(shift_short, STREAM_SHORT);
    bus_crc32c = bus_crc32c_hardware;
    bus_crc32c_frame = frame_crc_hardware;
#endif
}
