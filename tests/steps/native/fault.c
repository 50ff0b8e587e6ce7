#include "fault.h"

#include <stdarg.h>

enum { PRINTED_MAX = 20 };

static struct {
    const char *path;
    int deaths;
    long instruction, count;
    unsigned long address;
} now;

void fault_at(const char *path, int deaths, long instruction, unsigned long address) {
    now.path = path;
    now.deaths = deaths;
    now.instruction = instruction;
    now.address = address;
}

void fault(const char *format, ...) {
    if (now.count++ >= PRINTED_MAX) return;
    printf("violation %s: death %d, before instruction %ld (at %#lx): ", now.path, now.deaths,
           now.instruction, now.address);
    va_list values;
    va_start(values, format);
    vprintf(format, values);
    va_end(values);
    putchar('\n');
    fflush(stdout);
}

long fault_count(void) { return now.count; }
