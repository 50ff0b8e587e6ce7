#include "lag_words.h"

#include <inttypes.h>

#include "fault.h"
#include "lag.h"

const lag_words lag_words_old = {.gate = 104, .tail = UINT64_MAX, .from = 3};
const lag_words lag_words_new = {.gate = 110, .tail = (uint64_t)1 << 40, .from = 9};

void lag_words_write(bus_partition *control, const lag_words *words) {
    bus_lag_set(control, words->gate, words->tail, words->from);
}

static void check(const bus_partition *control, const lag_words *words) {
    if (control->lag_gate != words->gate) return;
    if (control->lag_tail != words->tail || control->lag_from != words->from)
        fault("the gate %" PRIu64 " stands with words of another one", words->gate);
}

void lag_words_check(const bus_partition *control) {
    check(control, &lag_words_old);
    check(control, &lag_words_new);
}
