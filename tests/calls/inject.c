/* Traces a process and all its children, and lets one of their system calls fail, or be the last.

       inject PID GO REPORT WHO CALL NTH ERROR DIE_AFTER SITES SITE

   PID       a child of this process that waits for a byte from the pipe GO (written here)
   REPORT    file, a line for each event: "call WHO NUMBER NTH SITE PATH", "hit …", "end WHO STATUS"
   WHO       which process: 0 is PID, 1 the first one that it forked, and so on; -1: nobody
   CALL NTH  the NTH call (from 1) of that number that WHO makes, threads included
   ERROR     0: SIGKILL before the call is made; else the call is not made and returns this errno
   DIE_AFTER 0: nothing more; else SIGKILL before the DIE_AFTERth call that WHO makes after that
   SITES     where the traced processes say from where they call (sites.py); 0: they do not
   SITE      0: any; else the NTH call is counted among those that WHO makes from there

   With WHO -1 every call is reported, else only the one that is hit (-2: none). The tracer dies
   with its own parent, and the traced ones with the tracer: nothing is left, whatever ends first.

       inject    without arguments: the numbers of the calls by their names, one a line */
#define _GNU_SOURCE
#include <elf.h>
#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#define THREADS_MAX 4096
#define PROCESSES_MAX 256
#define CALLS_MAX 512
#define SITES_MAX 4096 /* as THREADS in sites.py */
#define SAME_MAX 8     /* calls of one name on one line that are told apart */
#define NOTHING (-2)
#define OPTIONS                                                                         \
    (PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK |                 \
     PTRACE_O_TRACECLONE | PTRACE_O_EXITKILL)

typedef struct {
    pid_t tid;
    int who;
    int error; /* to return at the exit of the call that was skipped */
    uint64_t changes;
    unsigned char same[CALLS_MAX]; /* calls since the last change of the stack */
} thread;

static thread threads[THREADS_MAX];
static int threads_count;
static pid_t processes[PROCESSES_MAX];
static int processes_count;
static unsigned counts[PROCESSES_MAX][CALLS_MAX];
static FILE *report;
static int who, call, nth, error_number, die_after;
static uint64_t sites, site;
static int has_hit, calls_since;
static unsigned at_site;

static void fail(const char *what) {
    perror(what);
    exit(2);
}

static pid_t status_field(pid_t tid, const char *field) {
    char path[64], line[256];
    pid_t value = 0;
    snprintf(path, sizeof path, "/proc/%d/status", tid);
    FILE *file = fopen(path, "r");
    if (!file) return 0;
    while (fgets(line, sizeof line, file)) {
        if (strncmp(line, field, strlen(field)) == 0) value = atoi(line + strlen(field));
    }
    fclose(file);
    return value;
}

static int number_of(pid_t pid) {
    for (int i = 0; i < processes_count; i++) {
        if (processes[i] == pid) return i;
    }
    if (processes_count == PROCESSES_MAX) fail("too many processes");
    processes[processes_count] = pid;
    return processes_count++;
}

/* The thread's entry; a new one if it was never seen. It may have ended by now: then who is -1. */
static thread *find(pid_t tid) {
    thread *free_entry = NULL;
    for (int i = 0; i < threads_count; i++) {
        if (threads[i].tid == tid) return &threads[i];
        if (threads[i].tid == 0) free_entry = &threads[i];
    }
    if (!free_entry) {
        if (threads_count == THREADS_MAX) fail("too many threads");
        free_entry = &threads[threads_count++];
    }
    pid_t pid = status_field(tid, "Tgid:");
    *free_entry = (thread){.tid = tid, .who = pid ? number_of(pid) : -1};
    return free_entry;
}

static void read_string(pid_t tid, uint64_t address, char *out, size_t size) {
    struct iovec local = {out, size - 1}, remote = {(void *)address, size - 1};
    size_t page = 4096 - address % 4096; /* the string may end where the mapping does */
    if (remote.iov_len > page) remote.iov_len = local.iov_len = page;
    ssize_t got = process_vm_readv(tid, &local, 1, &remote, 1, 0);
    out[got > 0 ? got : 0] = 0;
    for (char *c = out; *c; c++) {
        if (*c < ' ') *c = '?';
    }
}

static int takes_path_first(uint64_t number) {
    switch (number) {
#ifdef SYS_open
        case SYS_open: case SYS_mkdir: case SYS_unlink: case SYS_rename: case SYS_rmdir:
        case SYS_chmod: case SYS_stat: case SYS_lstat: case SYS_readlink: case SYS_link:
#endif
        case SYS_statfs: case SYS_execve:
            return 1;
        default:
            return 0;
    }
}

static int takes_path_second(uint64_t number) {
    switch (number) {
#ifdef SYS_renameat
        case SYS_renameat:
#endif
        case SYS_openat: case SYS_mkdirat: case SYS_unlinkat: case SYS_renameat2: case SYS_linkat:
        case SYS_fchmodat: case SYS_newfstatat: case SYS_readlinkat: case SYS_faccessat:
            return 1;
        default:
            return 0;
    }
}

static void describe(pid_t tid, const struct __ptrace_syscall_info *info, char *out, size_t size) {
    const __typeof__(info->entry.args[0]) *args = info->entry.args;
    char link[64];
    out[0] = 0;
    if (takes_path_first(info->entry.nr)) {
        read_string(tid, args[0], out, size);
    } else if (takes_path_second(info->entry.nr)) {
        read_string(tid, args[1], out, size);
    } else {
        uint64_t fd = info->entry.nr == SYS_mmap ? args[4] : args[0];
        if (fd > 65535) return;
        snprintf(link, sizeof link, "/proc/%d/fd/%d", tid, (int)fd);
        ssize_t length = readlink(link, out, size - 1);
        out[length > 0 ? length : 0] = 0;
    }
}

/* From here on no call is of interest: the processes need not say where they are. */
static void tell_enough(pid_t tid) {
    uint64_t yes = 1;
    struct iovec local = {&yes, sizeof yes};
    struct iovec remote = {(void *)(sites + 2 * sizeof yes * SITES_MAX), sizeof yes};
    if (sites && process_vm_writev(tid, &local, 1, &remote, 1, 0) != sizeof yes) fail("enough");
}

/* Stops at the next call only if one is still to be counted, or has to return an error. */
static void go_on(const thread *at, int signal_number) {
    int is_over = who == NOTHING || (has_hit && die_after == 0);
    ptrace(is_over && !at->error ? PTRACE_CONT : PTRACE_SYSCALL, at->tid, 0, signal_number);
}

/* The number of the thread's stack, and of the call among those of its name on the same line. */
static uint64_t place(thread *at, uint64_t number) {
    uint64_t said[2] = {0, 0};
    struct iovec local = {said, sizeof said};
    struct iovec remote = {(void *)(sites + sizeof said * (at->tid % SITES_MAX)), sizeof said};
    if (!sites || process_vm_readv(at->tid, &local, 1, &remote, 1, 0) != sizeof said) return 0;
    if (said[1] != at->changes) memset(at->same, 0, sizeof at->same);
    at->changes = said[1];
    unsigned same = at->same[number];
    if (same < SAME_MAX) at->same[number]++;
    return (said[0] ^ same) * 0x9E3779B97F4A7C15u | 1;
}

static void note(const char *event, const thread *at, const struct __ptrace_syscall_info *info,
                 unsigned count, uint64_t from) {
    char text[PATH_MAX];
    describe(at->tid, info, text, sizeof text);
    fprintf(report, "%s %d %d %u %llu %s\n", event, at->who, (int)info->entry.nr, count,
            (unsigned long long)from, text);
}

/* Makes the kernel skip the call that the thread is about to make. */
static void skip(pid_t tid) {
#if defined(__x86_64__)
    if (ptrace(PTRACE_POKEUSER, tid, offsetof(struct user_regs_struct, orig_rax), -1L)) {
        fail("skip");
    }
#else
    int none = -1;
    struct iovec vector = {&none, sizeof none};
    if (ptrace(PTRACE_SETREGSET, tid, NT_ARM_SYSTEM_CALL, &vector)) fail("skip");
#endif
}

static void set_result(pid_t tid, long value) {
#if defined(__x86_64__)
    if (ptrace(PTRACE_POKEUSER, tid, offsetof(struct user_regs_struct, rax), value)) fail("result");
#else
    struct user_regs_struct registers;
    struct iovec vector = {&registers, sizeof registers};
    if (ptrace(PTRACE_GETREGSET, tid, NT_PRSTATUS, &vector)) fail("result");
    registers.regs[0] = value;
    if (ptrace(PTRACE_SETREGSET, tid, NT_PRSTATUS, &vector)) fail("result");
#endif
}

/* Before the call. Returns 0 if the process was killed instead. */
static int enter(thread *at, const struct __ptrace_syscall_info *info) {
    if (at->who < 0 || info->entry.nr >= CALLS_MAX) return 1;
    unsigned count = ++counts[at->who][info->entry.nr];
    uint64_t from = place(at, info->entry.nr);
    if (who == -1) note("call", at, info, count, from);
    if (at->who != who) return 1;
    if (has_hit) {
        if (die_after == 0 || ++calls_since != die_after) return 1;
        note("death", at, info, count, from);
        kill(processes[who], SIGKILL);
        return 0;
    }
    if ((int)info->entry.nr != call || (site && from != site)) return 1;
    if ((int)(site ? ++at_site : count) != nth) return 1;
    has_hit = 1;
    note("hit", at, info, count, from);
    if (error_number == 0) {
        kill(processes[who], SIGKILL);
        return 0;
    }
    if (die_after == 0) tell_enough(at->tid);
    skip(at->tid);
    at->error = error_number;
    return 1;
}

static void on_call(thread *at) {
    struct __ptrace_syscall_info info;
    if (ptrace(PTRACE_GET_SYSCALL_INFO, at->tid, sizeof info, &info) <= 0) return;
    if (info.op == PTRACE_SYSCALL_INFO_ENTRY) {
        if (!enter(at, &info)) return;
    } else if (info.op == PTRACE_SYSCALL_INFO_EXIT && at->error) {
        set_result(at->tid, -at->error);
        at->error = 0;
    }
    go_on(at, 0);
}

static void on_end(thread *at, int status) {
    if (at->who >= 0 && processes[at->who] == at->tid) {
        int code = WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
        fprintf(report, "end %d %d\n", at->who, code);
        fflush(report);
    }
    at->tid = 0;
}

static void on_stop(thread *at, int status) {
    int signal_number = WSTOPSIG(status), event = status >> 16;
    if (signal_number == (SIGTRAP | 0x80)) {
        on_call(at);
    } else if (event == PTRACE_EVENT_FORK || event == PTRACE_EVENT_VFORK) {
        unsigned long child = 0;
        ptrace(PTRACE_GETEVENTMSG, at->tid, 0, &child);
        number_of(child);
        go_on(at, 0);
    } else if (event == PTRACE_EVENT_STOP && signal_number == SIGSTOP) {
        ptrace(PTRACE_LISTEN, at->tid, 0, 0);
    } else {
        go_on(at, event ? 0 : signal_number);
    }
}

static void trace(void) {
    int status;
    for (;;) {
        pid_t tid = waitpid(-1, &status, __WALL);
        if (tid < 0 && errno == EINTR) continue;
        if (tid < 0) return; /* ECHILD: all have ended */
        thread *at = find(tid);
        if (WIFSTOPPED(status)) on_stop(at, status);
        else on_end(at, status);
    }
}

static void print_names(void) {
#define N(name) printf(#name " %d\n", (int)SYS_##name);
#include "call_names.h"
#undef N
}

int main(int argc, char **argv) {
    if (argc != 11) {
        print_names();
        return 0;
    }
    pid_t pid = atoi(argv[1]);
    int go = atoi(argv[2]);
    report = fopen(argv[3], "w");
    if (!report) fail(argv[3]);
    who = atoi(argv[4]);
    call = atoi(argv[5]);
    nth = atoi(argv[6]);
    error_number = atoi(argv[7]);
    die_after = atoi(argv[8]);
    sites = strtoull(argv[9], NULL, 10);
    site = strtoull(argv[10], NULL, 10);
    if (prctl(PR_SET_PDEATHSIG, SIGKILL)) fail("prctl");
    if (ptrace(PTRACE_SEIZE, pid, 0, OPTIONS)) fail("seize");
    if (ptrace(PTRACE_INTERRUPT, pid, 0, 0)) fail("interrupt");
    number_of(pid);
    int status;
    if (waitpid(pid, &status, __WALL) != pid) fail("waitpid");
    go_on(find(pid), 0);
    if (write(go, "g", 1) != 1) fail("go");
    close(go);
    trace();
    fclose(report);
    return 0;
}
