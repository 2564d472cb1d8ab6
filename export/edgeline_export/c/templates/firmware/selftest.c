/* The self-test of @name@ on a board: does it compute what the exporter verified?
 *
 * The inputs and what they must give lie in flash (selftest_data.h). It speaks over semihosting, and its exit code is
 *   0  every output is @allowed@
 *   1  one is not; the first is printed
 *   3  the library returned an error code
 *   64 and more: a fault (startup.c)
 *
 * It also tells what a call of @name@_@infer@ takes: stack, by painting it before and looking after, and ticks of
 * SysTick, which an emulator that counts instructions turns into a number of instructions. On a board they are
 * processor cycles.
 *
 * With -DSELFTEST_WITHOUT_MAIN, main is yours and calls @name@_selftest. */

#include <stdint.h>

#include "@name@.h"
#include "selftest_data.h"
#include "semihosting.h"

static selftest_output output[SELFTEST_SAMPLES_PER_CALL * SELFTEST_OUTPUTS];
static unsigned char arena[SELFTEST_ARENA_BYTES] __attribute__((aligned(EDGELINE_ARENA_ALIGNMENT)));

uint32_t edgeline_wraps; /* how often SysTick wrapped */

int @name@_selftest(void);
void SysTick_Handler(void);

/* --- stack ------------------------------------------------------------------------------------------------------- */

extern uint32_t edgeline_stack[], edgeline_stack_top[]; /* board.ld */

enum { PAINT = 0x5AA5F00F };

__attribute__((always_inline)) static inline uint32_t *stack_pointer(void)
{
    uint32_t *sp;
    __asm__ volatile("mov %0, sp" : "=r"(sp));
    return sp;
}

static uint32_t *deepest(void)
{
    uint32_t *word = edgeline_stack;
    while (word < edgeline_stack_top && *(volatile uint32_t *)word == PAINT) word++;
    return word;
}

/* Calls the library with the stack below painted; `taken` becomes the bytes that it used. */
__attribute__((noinline)) static int painted_call(const selftest_input *input, uint32_t *taken)
{
    uint32_t *const sp = stack_pointer();
    for (volatile uint32_t *word = edgeline_stack; word < sp; word++) *word = PAINT;
    const int code = SELFTEST_INFER(input, output, SELFTEST_SAMPLES_PER_CALL, arena, sizeof arena);
    *taken = (uint32_t)((uintptr_t)sp - (uintptr_t)deepest());
    return code;
}

/* --- SysTick ------------------------------------------------------------------------------------------------------ */

#define SYST ((volatile uint32_t *)0xE000E010u) /* CSR, RVR, CVR: Armv6-M and later */

typedef int infer_function(const selftest_input *, selftest_output *, size_t, void *, size_t);

/* It counts 24 bits down: the exporter takes the instructions of this off again, five for each time. */
__attribute__((naked)) void SysTick_Handler(void)
{
    __asm__ volatile(
        ".syntax unified\n\t"
        "ldr r0, =edgeline_wraps\n\t"
        "ldr r1, [r0]\n\t"
        "adds r1, r1, #1\n\t"
        "str r1, [r0]\n\t"
        "bx lr\n\t"
        ".ltorg");
}

/* The ticks of one call: how often the counter wrapped, and what it has counted since. */
struct ticks {
    uint32_t wraps, rest;
};

__attribute__((noinline)) static struct ticks ticks_of(infer_function *infer, const selftest_input *input)
{
    volatile uint32_t *const wraps = &edgeline_wraps;
    *wraps = 0;
    SYST[1] = 0xFFFFFFu;
    SYST[2] = 0;
    SYST[0] = 7; /* the processor's clock, with interrupts, on */
    uint32_t before = SYST[2];
    while (before == 0) before = SYST[2];
    infer(input, output, SELFTEST_SAMPLES_PER_CALL, arena, sizeof arena);
    const uint32_t after = SYST[2];
    SYST[0] = 0;
    return (struct ticks){*wraps, (before - after) & 0xFFFFFFu};
}

__attribute__((noinline)) static int nothing(const selftest_input *input, selftest_output *made, size_t n, void *memory,
                                             size_t bytes)
{
    (void)input, (void)made, (void)n, (void)memory, (void)bytes;
    return 0;
}

/* --- words -------------------------------------------------------------------------------------------------------- */

static void print_number(uint32_t number)
{
    char text[11];
    char *at = text + sizeof text;
    *--at = '\0';
    do {
        *--at = (char)('0' + number % 10u);
        number /= 10u;
    } while (number != 0);
    semihosting_print(at);
}

static void print_figure(const char *name, uint32_t number)
{
    semihosting_print(name);
    print_number(number);
    semihosting_print("\n");
}

static void print_bits(uint32_t bits)
{
    char text[] = "0x00000000";
    for (int i = 9; i > 1; i--, bits >>= 4) text[i] = "0123456789abcdef"[bits & 15u];
    semihosting_print(text);
}

/* --- the test ----------------------------------------------------------------------------------------------------- */

static uint32_t bits_of(selftest_output number)
{
    union {
        selftest_output number;
        uint32_t bits;
    } both = {.bits = 0};
    both.number = number;
    return both.bits;
}

static int differs(selftest_output found, selftest_output expected)
{
#ifdef SELFTEST_TOLERANCE
    const float difference = (float)found - (float)expected;
    return !((difference < 0.0f ? -difference : difference) <= SELFTEST_TOLERANCE); /* NaN is not */
#elif defined(SELFTEST_INTEGERS)
    return found != expected;
#else
    return bits_of(found) != bits_of(expected);
#endif
}

/* The host reads this line and writes the numbers in decimal. */
static int report(int call, int at, selftest_output found, selftest_output expected)
{
    semihosting_print("differs: input ");
    print_number((uint32_t)(call * SELFTEST_SAMPLES_PER_CALL + at / SELFTEST_OUTPUTS));
    semihosting_print(" output ");
    print_number((uint32_t)(at % SELFTEST_OUTPUTS));
    semihosting_print(" found ");
    print_bits(bits_of(found));
    semihosting_print(" expected ");
    print_bits(bits_of(expected));
    semihosting_print("\n");
    return 1;
}

int @name@_selftest(void)
{
    uint32_t stack = 0;
    for (int call = 0; call < SELFTEST_CALLS; call++) {
        const selftest_input *input = selftest_inputs[call];
        const int code = call == 0 ? painted_call(input, &stack)
                                   : SELFTEST_INFER(input, output, SELFTEST_SAMPLES_PER_CALL, arena, sizeof arena);
        if (code != EDGELINE_OK) {
            print_figure("error: ", (uint32_t)code);
            return 3;
        }
        for (int i = 0; i < SELFTEST_SAMPLES_PER_CALL * SELFTEST_OUTPUTS; i++)
            if (differs(output[i], selftest_expected[call].numbers[i]))
                return report(call, i, output[i], selftest_expected[call].numbers[i]);
    }
    const struct ticks empty = ticks_of(nothing, selftest_inputs[0]);
    const struct ticks ticks = ticks_of(SELFTEST_INFER, selftest_inputs[0]);
    print_figure("passed: ", SELFTEST_CALLS * SELFTEST_SAMPLES_PER_CALL);
    print_figure("stack: ", stack);
    print_figure("image stack: ", (uint32_t)((uintptr_t)edgeline_stack_top - (uintptr_t)deepest()));
    print_figure("wraps: ", ticks.wraps);
    print_figure("ticks: ", ticks.rest);
    print_figure("empty: ", empty.rest);
    return 0;
}

#ifndef SELFTEST_WITHOUT_MAIN
int main(void)
{
    return @name@_selftest();
}
#endif
