/* From reset to main, for any Cortex-M: what a C program without an operating system needs, and nothing of a board.
 *
 * Clocks, caches and pins are as reset leaves them; a board of yours sets them up where main begins. A fault, or an
 * interrupt that nobody handles, ends the program by semihosting with the exit code 64 + the exception's number: 67 is
 * a HardFault. */

#include <stdint.h>

#include "semihosting.h"

/* Addresses that board.ld gives. */
extern uint32_t edgeline_stack_top[], edgeline_data[], edgeline_data_end[], edgeline_bss[], edgeline_bss_end[];
extern const uint32_t edgeline_data_load[];

int main(void);
void Reset_Handler(void);
void Default_Handler(void);
void SysTick_Handler(void);
void edgeline_stopped(int exception);

/* Called below. */
__attribute__((used)) void edgeline_stopped(int exception)
{
    semihosting_print("the processor stopped at a fault\n");
    semihosting_exit(64 + exception);
}

/* The stack may be what is wrong: it begins anew. */
__attribute__((naked)) void Default_Handler(void)
{
    __asm__ volatile(
        ".syntax unified\n\t"
        "ldr r0, =edgeline_stack_top\n\t"
        "mov sp, r0\n\t"
        "mrs r0, ipsr\n\t"
        "ldr r1, =edgeline_stopped\n\t"
        "bx r1\n\t"
        ".ltorg");
}

__attribute__((weak)) void SysTick_Handler(void)
{
    Default_Handler();
}

void Reset_Handler(void)
{
#if defined(__ARM_FP) || defined(__ARM_FEATURE_MVE)
    /* CPACR: the floating-point unit and Helium are coprocessors 10 and 11, and off after reset. */
    *(volatile uint32_t *)0xE000ED88u |= 0xFu << 20;
    __asm__ volatile("dsb\n\tisb" ::: "memory");
#endif
    const uint32_t *from = edgeline_data_load;
    for (uint32_t *to = edgeline_data; to < edgeline_data_end;) *to++ = *from++;
    for (uint32_t *to = edgeline_bss; to < edgeline_bss_end;) *to++ = 0;
    semihosting_exit(main());
}

struct vectors {
    uint32_t *stack_top;
    void (*handlers[15])(void);
};

__attribute__((used, section(".vectors"))) static const struct vectors vectors = {
    edgeline_stack_top,
    {
        Reset_Handler,
        Default_Handler, /* NMI */
        Default_Handler, /* HardFault */
        Default_Handler, /* MemManage */
        Default_Handler, /* BusFault */
        Default_Handler, /* UsageFault */
        Default_Handler, /* SecureFault */
        0, 0, 0,
        Default_Handler, /* SVCall */
        Default_Handler, /* DebugMonitor */
        0,
        Default_Handler, /* PendSV */
        SysTick_Handler,
    },
};
