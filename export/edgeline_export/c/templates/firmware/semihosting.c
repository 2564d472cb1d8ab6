/* Semihosting's calls: semihosting.h. */

#include "semihosting.h"

enum {
    SYS_OPEN = 0x01,
    SYS_CLOSE = 0x02,
    SYS_WRITE0 = 0x04,
    SYS_WRITE = 0x05,
    SYS_READ = 0x06,
    SYS_EXIT_EXTENDED = 0x20
};

static uintptr_t semihosting(uintptr_t operation, const void *argument)
{
    register uintptr_t r0 __asm__("r0") = operation;
    register const void *r1 __asm__("r1") = argument;
    __asm__ volatile("bkpt 0xab" : "+r"(r0) : "r"(r1) : "memory");
    return r0;
}

void semihosting_print(const char *text)
{
    semihosting(SYS_WRITE0, text);
}

void semihosting_exit(int code)
{
    /* SYS_EXIT takes no code on 32-bit ARM. 0x20026: ADP_Stopped_ApplicationExit. */
    const uintptr_t block[2] = {0x20026u, (uintptr_t)code};
    semihosting(SYS_EXIT_EXTENDED, block);
    for (;;) {
    }
}

int semihosting_open(const char *path, int mode)
{
    size_t length = 0;
    while (path[length] != '\0') length++;
    const uintptr_t block[3] = {(uintptr_t)path, (uintptr_t)mode, length};
    return (int)semihosting(SYS_OPEN, block);
}

int semihosting_close(int file)
{
    const uintptr_t block[1] = {(uintptr_t)file};
    return (int)semihosting(SYS_CLOSE, block);
}

size_t semihosting_read(int file, void *bytes, size_t count)
{
    const uintptr_t block[3] = {(uintptr_t)file, (uintptr_t)bytes, count};
    return semihosting(SYS_READ, block);
}

size_t semihosting_write(int file, const void *bytes, size_t count)
{
    const uintptr_t block[3] = {(uintptr_t)file, (uintptr_t)bytes, count};
    return semihosting(SYS_WRITE, block);
}
