/* Names of the system calls that a broker or a replica may make; N(name) says what to do. */
N(accept4) N(bind) N(brk) N(clone) N(clone3) N(close) N(close_range) N(connect) N(dup) N(dup3)
N(clock_nanosleep) N(execve) N(exit) N(exit_group) N(fallocate) N(fchmod) N(fchmodat) N(fcntl)
N(fdatasync) N(flock) N(fstat) N(fsync) N(ftruncate) N(futex) N(getdents64) N(getegid) N(geteuid)
N(getgid) N(getpid) N(getppid) N(getrandom) N(getsockname) N(getsockopt) N(gettid) N(getuid)
N(ioctl) N(kill) N(linkat) N(listen) N(lseek) N(madvise) N(mkdirat) N(mmap) N(mprotect) N(mremap)
N(munmap) N(newfstatat) N(openat) N(pidfd_open) N(pidfd_send_signal) N(pipe2) N(ppoll) N(prctl)
N(pread64) N(prlimit64) N(pwrite64) N(read) N(readlinkat) N(recvfrom) N(renameat2) N(rseq)
N(rt_sigaction) N(rt_sigprocmask) N(rt_sigreturn) N(sched_getaffinity) N(sched_yield) N(sendto)
N(set_robust_list) N(set_tid_address) N(setsockopt) N(shutdown) N(sigaltstack) N(socket)
N(socketpair) N(statfs) N(statx) N(sync_file_range) N(tgkill) N(umask) N(uname) N(unlinkat)
N(wait4) N(waitid) N(write) N(writev)
#ifdef SYS_renameat
N(renameat)
#endif
#ifdef SYS_open /* calls that newer architectures have with directories only */
N(access) N(chmod) N(dup2) N(fork) N(link) N(lstat) N(mkdir) N(open) N(poll) N(readlink) N(rename)
N(rmdir) N(select) N(stat) N(unlink) N(vfork)
#endif
