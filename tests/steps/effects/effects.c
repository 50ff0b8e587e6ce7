/* A process that dies before effect number N of its own: a store to shared memory, or a system call
 * that others can see. What happens between two effects is private, and dies with the process.
 *
 * Shared mappings are write-protected: each store faults, is counted, and is let through alone, by
 * a single step with the mappings open. A seccomp filter turns the system calls into SIGSYS; the
 * handler makes them from the one place that the filter lets through. x86-64, one thread.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

enum { REGIONS_MAX = 256, TRAP_FLAG = 0x100, PAGE = 4096 };

static struct {
    uintptr_t from, to;
} regions[REGIONS_MAX];
static int regions_count;
static long count, last;
static int begun;

long effects_call(long number, long a, long b, long c, long d, long e, long f);
extern const char effects_call_end[];
__asm__(".text\n"
        ".globl effects_call\n"
        "effects_call: mov %rdi, %rax; mov %rsi, %rdi; mov %rdx, %rsi; mov %rcx, %rdx\n"
        "mov %r8, %r10; mov %r9, %r8; mov 8(%rsp), %r9\n"
        "syscall\n"
        ".globl effects_call_end\n"
        "effects_call_end: ret\n");

static void protect(int protection) {
    for (int i = 0; i < regions_count; i++)
        effects_call(SYS_mprotect, (long)regions[i].from,
                     (long)(regions[i].to - regions[i].from), protection, 0, 0, 0);
}

static void effect(void) {
    if (++count != last) return;
    protect(PROT_READ | PROT_WRITE); /* the kernel marks the mutexes of the dead */
    effects_call(SYS_kill, getpid(), SIGKILL, 0, 0, 0, 0);
}

static int is_watched(uintptr_t at) {
    for (int i = 0; i < regions_count; i++)
        if (at >= regions[i].from && at < regions[i].to) return 1;
    return 0;
}

static void on_store(int number, siginfo_t *info, void *context) {
    ucontext_t *at = context;
    if (!is_watched((uintptr_t)info->si_addr)) {
        signal(number, SIG_DFL); /* a fault of its own: it happens again */
        return;
    }
    effect();
    protect(PROT_READ | PROT_WRITE);
    at->uc_mcontext.gregs[REG_EFL] |= TRAP_FLAG;
}

static void on_step(int number, siginfo_t *info, void *context) {
    (void)number, (void)info;
    ucontext_t *at = context;
    at->uc_mcontext.gregs[REG_EFL] &= ~TRAP_FLAG;
    protect(PROT_READ);
}

void effects_watch(uintptr_t from, uintptr_t bytes) {
    if (regions_count == REGIONS_MAX) abort();
    regions[regions_count].from = from;
    regions[regions_count++].to = from + (bytes + PAGE - 1) / PAGE * PAGE;
    if (begun) protect(PROT_READ);
}

static void forget(uintptr_t from) {
    for (int i = 0; i < regions_count; i++)
        if (regions[i].from == from) regions[i] = regions[--regions_count];
}

static void on_call(int signal_number, siginfo_t *info, void *context) {
    (void)signal_number;
    int kept = errno;
    greg_t *at = ((ucontext_t *)context)->uc_mcontext.gregs;
    if (info->si_syscall == SYS_munmap) forget((uintptr_t)at[REG_RDI]);
    else effect();
    long result = effects_call(info->si_syscall, at[REG_RDI], at[REG_RSI], at[REG_RDX],
                               at[REG_R10], at[REG_R8], at[REG_R9]);
    if (info->si_syscall == SYS_mmap && result > 0)
        effects_watch((uintptr_t)result, (uintptr_t)at[REG_RSI]);
    at[REG_RAX] = result;
    errno = kept;
}

#define LOAD(field) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, field))
#define LOW(i) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args) + 8 * (i))
#define EQUAL(value, yes, no) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)(value), yes, no)
#define ANY(bits, yes, no) BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, (bits), yes, no)
#define ALLOW BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)
#define TRAP BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRAP)
#define ALWAYS(name) EQUAL(SYS_##name, 0, 1), TRAP

static int filter(void) {
    uint64_t here = (uint64_t)effects_call_end;
    struct sock_filter code[] = {
        LOAD(arch),
        EQUAL(AUDIT_ARCH_X86_64, 1, 0),
        ALLOW,
        LOAD(instruction_pointer),
        EQUAL(here, 0, 3),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, instruction_pointer) + 4),
        EQUAL(here >> 32, 0, 1),
        ALLOW,
        LOAD(nr),
        ALWAYS(write), ALWAYS(pwrite64), ALWAYS(writev), ALWAYS(pwritev), ALWAYS(ftruncate),
        ALWAYS(fallocate), ALWAYS(fsync), ALWAYS(fdatasync), ALWAYS(rename), ALWAYS(renameat),
        ALWAYS(renameat2), ALWAYS(unlink), ALWAYS(unlinkat), ALWAYS(link), ALWAYS(linkat),
        ALWAYS(mkdir), ALWAYS(mkdirat), ALWAYS(rmdir), ALWAYS(close), ALWAYS(munmap),
        EQUAL(SYS_openat, 0, 4), LOW(2), ANY(O_CREAT, 0, 1), TRAP, ALLOW,
        EQUAL(SYS_fcntl, 0, 5), LOW(1), EQUAL(F_OFD_SETLK, 1, 0), EQUAL(F_OFD_SETLKW, 0, 1), TRAP,
        ALLOW,
        EQUAL(SYS_mmap, 0, 6), LOW(3), ANY(MAP_SHARED, 0, 3), LOW(2), ANY(PROT_WRITE, 0, 1), TRAP,
        ALLOW,
        ALLOW,
    };
    struct sock_fprog program = {sizeof code / sizeof *code, code};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)) return -1;
    return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
}

static int handle(int number, void (*handler)(int, siginfo_t *, void *)) {
    struct sigaction action = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO | SA_NODEFER};
    return sigaction(number, &action, NULL);
}

/* From here on effects count, and before number `death` (from 1) there is no more. 0: never. */
int effects_begin(long death) {
    last = death;
    begun = 1;
    if (handle(SIGSEGV, on_store) || handle(SIGTRAP, on_step) || handle(SIGSYS, on_call)) return -1;
    protect(PROT_READ);
    return filter();
}

/* How many there were; nobody dies any more. */
long effects_end(void) {
    last = 0;
    return count;
}
