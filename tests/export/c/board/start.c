/* A Cortex-M of QEMU up to newlib's _start: vector table, floating point and MVE on; a fault ends it with code 99. */
#include <stdint.h>

extern uint32_t stack_top;
void _start(void);
void reset(void);
void _init(void) {}
void _fini(void) {}

static void fault(void)
{
    static const uint32_t block[2] = {0x20026, 99}; /* ADP_Stopped_ApplicationExit */
    register uint32_t operation __asm__("r0") = 0x20; /* SYS_EXIT_EXTENDED */
    register const uint32_t *argument __asm__("r1") = block;
    __asm__ volatile("bkpt 0xab" : : "r"(operation), "r"(argument));
    for (;;) {
    }
}

void reset(void)
{
#if defined(__ARM_FP)
    *(volatile uint32_t *)0xE000ED88 |= 0xFu << 20; /* CPACR */
    __asm__ volatile("dsb\n\tisb");
#endif
    _start();
}

__attribute__((section(".vectors"), used)) static void *const vectors[16] = {
    &stack_top, (void *)reset, (void *)fault, (void *)fault, (void *)fault, (void *)fault, (void *)fault,
};
