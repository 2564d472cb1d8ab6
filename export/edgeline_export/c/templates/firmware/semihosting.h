/* Semihosting: how a program without an operating system speaks to the machine that debugs or emulates it.
 *
 * Arm's "Semihosting for AArch32 and AArch64", the instruction BKPT 0xAB of the M profile. QEMU answers with
 * -semihosting-config enable=on,target=native, OpenOCD with `arm semihosting enable`. With nobody there that answers, a
 * call is a HardFault: what ships does not call these. */
#ifndef SEMIHOSTING_H
#define SEMIHOSTING_H

#include <stddef.h>
#include <stdint.h>

/* Writes a string to the debugger's console. */
void semihosting_print(const char *text);

/* Ends the program; the emulator's exit code becomes `code`. */
void semihosting_exit(int code) __attribute__((noreturn));

/* A file of the host's: a handle, or -1. */
enum { SEMIHOSTING_READ = 1, SEMIHOSTING_WRITE = 5 }; /* fopen's "rb" and "wb" */
int semihosting_open(const char *path, int mode);
int semihosting_close(int file);

/* Both return how many bytes were left when they ended: 0 when all were read or written. */
size_t semihosting_read(int file, void *bytes, size_t count);
size_t semihosting_write(int file, const void *bytes, size_t count);

#endif
