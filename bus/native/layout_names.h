/* layout_names.h: the constants and field offsets of layout.h by name, for Python. */
#ifndef BUS_LAYOUT_NAMES_H
#define BUS_LAYOUT_NAMES_H

#include <stddef.h>
#include <stdint.h>

typedef struct {
    const char *name;
    uint64_t value;
} bus_layout_name;

extern const bus_layout_name bus_layout_names[]; /* ends with a NULL name */

#endif
