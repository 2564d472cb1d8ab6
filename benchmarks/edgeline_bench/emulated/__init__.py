"""Programs for other CPUs, under QEMU's user mode: what they execute, counted."""
