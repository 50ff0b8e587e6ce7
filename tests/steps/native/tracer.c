#define _GNU_SOURCE
#include "tracer.h"

#include <errno.h>
#include <signal.h>
#include <stddef.h>
#include <sys/ptrace.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#include "client.h"
#include "fault.h"

#if !defined(__x86_64__)
#error "the stepping tests know the registers and the breakpoint of x86-64 only"
#endif
#define BREAKPOINT 0xccul

long tracer_steps;

/* The child stops by itself in front of the operation and behind it. */
__attribute__((noinline)) static void begin_here(void) { __asm__ volatile("int3"); }
__attribute__((noinline)) static void end_here(void) { __asm__ volatile("int3"); }

static unsigned long address_of(pid_t pid) {
    return (unsigned long)ptrace(PTRACE_PEEKUSER, pid, offsetof(struct user, regs.rip), 0);
}

static void expect_trap(pid_t pid) {
    int status;
    pid_t stopped;
    do stopped = waitpid(pid, &status, 0);
    while (stopped < 0 && errno == EINTR);
    DEMAND(stopped == pid && WIFSTOPPED(status));
    DEMAND(WSTOPSIG(status) == SIGTRAP);
}

static void step(pid_t pid) {
    DEMAND(ptrace(PTRACE_SINGLESTEP, pid, 0, 0) == 0);
    expect_trap(pid);
    tracer_steps++;
}

pid_t tracer_start(arena *arena, operation *operate) {
    pid_t pid = fork();
    DEMAND(pid >= 0);
    if (pid == 0) {
        client_clock_stands = 1;
        if (ptrace(PTRACE_TRACEME, 0, 0, 0)) _exit(3);
        begin_here();
        operate(arena);
        end_here();
        _exit(0);
    }
    expect_trap(pid);
    return pid;
}

static void end(pid_t pid) {
    int status;
    DEMAND(kill(pid, SIGKILL) == 0);
    DEMAND(waitpid(pid, &status, 0) == pid && WIFSIGNALED(status));
}

static void note(recording *out, unsigned long address) {
    if (out->count == out->room) {
        out->room = out->room ? 2 * out->room : 4096;
        out->addresses = realloc(out->addresses, (size_t)out->room * sizeof *out->addresses);
        DEMAND(out->addresses);
    }
    out->addresses[out->count++] = address;
}

/* How often each instruction's address came before: a table with open addressing. */
static void count_passes(recording *out) {
    size_t room = 16;
    while (room < (size_t)out->count * 2) room *= 2;
    unsigned long *keys = calloc(room, sizeof *keys);
    long *counts = calloc(room, sizeof *counts);
    DEMAND(keys && counts);
    for (long i = 0; i < out->count; i++) {
        size_t at = out->addresses[i] * 0x9e3779b97f4a7c15ull >> 20 & (room - 1);
        while (keys[at] && keys[at] != out->addresses[i]) at = (at + 1) & (room - 1);
        keys[at] = out->addresses[i];
        out->passes[i] = counts[at]++;
    }
    free(keys);
    free(counts);
}

static void count_rounds(recording *out) {
    out->rounds = calloc((size_t)out->count, sizeof *out->rounds);
    DEMAND(out->rounds);
    for (long i = 1; i < out->count; i++)
        if (out->addresses[i] == out->addresses[i - 1]) out->rounds[i] = out->rounds[i - 1] + 1;
}

/* A pass over a breakpoint costs two stops of the child, a step one. */
static void find_breakpoints(recording *out) {
    out->passes = calloc((size_t)out->count, sizeof *out->passes);
    out->breakpoints = calloc((size_t)out->count, sizeof *out->breakpoints);
    DEMAND(out->passes && out->breakpoints);
    count_passes(out);
    long cost = 0;
    for (long i = 0; i < out->count; i++) {
        long direct = 2 * out->passes[i] + 2;
        int better = i > 0 && direct < cost + 1;
        out->breakpoints[i] = i == 0 ? 0 : better ? i : out->breakpoints[i - 1];
        cost = better ? direct : cost + 1;
    }
}

void tracer_record(arena *arena, operation *operate, recording *out) {
    *out = (recording){0};
    pid_t pid = tracer_start(arena, operate);
    for (;;) {
        unsigned long address = address_of(pid);
        note(out, address);
        if (address == (unsigned long)end_here) break;
        step(pid);
    }
    end(pid);
    find_breakpoints(out);
    count_rounds(out);
}

/* Lets the child run until it stands at `address` for the (passes + 1)th time. */
static void run_to(pid_t pid, unsigned long address, long passes) {
    errno = 0;
    long text = ptrace(PTRACE_PEEKTEXT, pid, address, 0);
    DEMAND(errno == 0);
    long trapped = (long)(((unsigned long)text & ~0xfful) | BREAKPOINT);
    for (;; passes--) {
        DEMAND(ptrace(PTRACE_POKETEXT, pid, address, trapped) == 0);
        DEMAND(ptrace(PTRACE_CONT, pid, 0, 0) == 0);
        expect_trap(pid);
        DEMAND(address_of(pid) == address + 1);
        DEMAND(ptrace(PTRACE_POKETEXT, pid, address, text) == 0);
        DEMAND(ptrace(PTRACE_POKEUSER, pid, offsetof(struct user, regs.rip), address) == 0);
        if (passes == 0) return;
        step(pid);
    }
}

static void go_to(pid_t pid, const recording *recorded, long n) {
    long from = recorded->breakpoints[n];
    if (from > 0) run_to(pid, recorded->addresses[from], recorded->passes[from]);
    for (; from < n; from++) step(pid);
}

/* Does so many rounds of the string instruction at which the child stands. */
static void do_rounds(pid_t pid, const recording *recorded, long n) {
    long behind = n, rounds = recorded->rounds[n];
    while (recorded->rounds[behind]) behind++;
    long address = (long)recorded->addresses[behind];
    DEMAND(ptrace(PTRACE_POKEUSER, pid, offsetof(struct user, regs.rcx), rounds) == 0);
    run_to(pid, (unsigned long)address, 0);
}

void tracer_kill(arena *arena, operation *operate, const recording *recorded, long n,
                 int stepping) {
    DEMAND(n >= 0 && n < recorded->count);
    pid_t pid = tracer_start(arena, operate);
    long rounds = stepping ? 0 : recorded->rounds[n];
    if (!stepping) go_to(pid, recorded, n - rounds);
    else for (long i = 0; i < n; i++) step(pid);
    DEMAND(address_of(pid) == recorded->addresses[n - rounds]);
    if (rounds) do_rounds(pid, recorded, n);
    end(pid);
}

void recording_free(recording *recorded) {
    free(recorded->addresses);
    free(recorded->breakpoints);
    free(recorded->passes);
    free(recorded->rounds);
    *recorded = (recording){0};
}
