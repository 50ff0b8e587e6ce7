/* inlines.c: the inline functions of the core's headers, compiled as C with the header in front. */
#include "reader.h"
#include "wait.h"

int weak_wake(bus_sleepers *sleepers, bus_bells *bells) { return bus_wake(sleepers, bells); }

int weak_attached(const bus_reader *reader) { return bus_reader_attached(reader); }
