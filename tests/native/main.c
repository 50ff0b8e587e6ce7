/* main.c: runs every test of the native core, or those whose name contains the first argument. */
#include <string.h>

#include "check.h"

static int run_list(const check_test *tests, const char *wanted) {
    int count = 0;
    for (; tests->name; tests++) {
        if (wanted && !strstr(tests->name, wanted)) continue;
        printf("%s\n", tests->name);
        fflush(stdout);
        tests->run();
        count++;
    }
    return count;
}

int main(int argc, char **argv) {
    const check_test *lists[] = {checksum_tests, frame_tests,  append_tests, ring_tests,
                                 damage_tests,   lock_tests,   wake_tests,   thread_tests,
                                 ack_tests,      keyed_tests};
    const char *wanted = argc > 1 ? argv[1] : NULL;
    int count = 0;
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++) count += run_list(lists[i], wanted);
    printf("%d passed, 0 failed\n", count);
    return count ? 0 : 2;
}
