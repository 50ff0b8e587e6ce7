"""The core on aarch64, which orders less than x86: compiled for it, looked at, and run by qemu."""
