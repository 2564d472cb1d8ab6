/* Dot products for microcontrollers: the taps of a pixel are gathered in a buffer, then multiplied by two or four
 * channels at a time.
 *
 * A tile is two pixels by two channels, or one row by four. Gathering puts the bytes of a window, which lie in several
 * runs, into the order and form that the multiplication wants; all channels share that. `steps` are of
 * EDGELINE_STEP taps, filled up with weights of 0: what the buffer holds there does not matter, and one byte behind a
 * run may be read (with Helium, fifteen).
 *
 * In pairs (EDGELINE_DOT_OFFSET 0): SMLAD multiplies two taps at once, as 16-bit numbers, so bytes must be widened. For
 * activations that is done once, when they are gathered, as words of two taps: 0 and 2, then 1 and 3 of each four. For
 * weights it is done half: a word holds 256 * w1 + w0 in each half, the weights of two channels for one tap. As it is,
 * it gives 256 * sum1 + sum0; with the lower bytes alone, sum0. The difference is 256 * sum1, exactly, as long as sum1
 * stays below 2^23, which the generator knows.
 *
 * In vectors (EDGELINE_DOT_OFFSET 128): Helium multiplies 16 signed bytes at once.
 *
 * needs: rounded_u8 */

typedef struct {
    int rows, runs, run; /* of a window; a run is so many bytes beside each other */
    ptrdiff_t row, next; /* from a row to the one below, from a run to the next */
    int steps;
    int apart; /* in vectors: from a pixel's taps in the buffer to those of the second one */
} edgeline_taps;

#if EDGELINE_DOT_OFFSET == 0

enum { EDGELINE_STEP = 8 };
typedef uint32_t edgeline_tap; /* two taps */
typedef int32_t edgeline_weight;

/* The assembler takes 13 registers, all that there are: without optimisation a compiler keeps some for itself. */
#if defined(__ARM_FEATURE_DSP) && defined(__GNUC__) && defined(__OPTIMIZE__) && !defined(EDGELINE_PLAIN_C)
#define EDGELINE_SMLAD 1
/* The words of a run of two pixels, the second one `second` bytes behind the first; returns where the next run's go. */
EDGELINE_INLINE edgeline_tap *edgeline_gather_run(const uint8_t *from, ptrdiff_t second, int run, edgeline_tap *to)
{
    __asm__ volatile("subs %[run], #3\n\t"
                     "blt 2f\n\t"
                     "1:\n\t"
                     "ldr r5, [%[from], %[second]]\n\t"
                     "ldr r4, [%[from]], #4\n\t"
                     "uxtb16 r6, r4, ror #8\n\t"
                     "uxtb16 r8, r5, ror #8\n\t"
                     "uxtb16 r4, r4\n\t"
                     "uxtb16 r5, r5\n\t"
                     "stmia %[to]!, {r4, r5, r6, r8}\n\t"
                     "subs %[run], #4\n\t"
                     "bge 1b\n\t"
                     "2:\n\t"
                     "adds %[run], #2\n\t" /* one or two left: 0 or 1 */
                     "bmi 3f\n\t"
                     "ldrh r5, [%[from], %[second]]\n\t"
                     "ldrh r4, [%[from]]\n\t"
                     "orr r5, r5, r5, lsl #8\n\t"
                     "orr r4, r4, r4, lsl #8\n\t"
                     "uxtb16 r5, r5\n\t"
                     "uxtb16 r4, r4\n\t"
                     "stmia %[to]!, {r4, r5}\n\t"
                     "3:\n\t"
                     : [from] "+r"(from), [run] "+r"(run), [to] "+r"(to)
                     : [second] "r"(second)
                     : "r4", "r5", "r6", "r8", "cc", "memory");
    return to;
}
#else
#define EDGELINE_SMLAD 0
EDGELINE_INLINE edgeline_tap *edgeline_gather_run(const uint8_t *from, ptrdiff_t second, int run, edgeline_tap *to)
{
    for (; run >= 3; run -= 4, from += 4, to += 4) {
        to[0] = (uint32_t)from[0] | (uint32_t)from[2] << 16;
        to[1] = (uint32_t)from[second] | (uint32_t)from[second + 2] << 16;
        to[2] = (uint32_t)from[1] | (uint32_t)from[3] << 16;
        to[3] = (uint32_t)from[second + 1] | (uint32_t)from[second + 3] << 16;
    }
    if (run > 0) {
        to[0] = (uint32_t)from[0] | (uint32_t)from[1] << 16;
        to[1] = (uint32_t)from[second] | (uint32_t)from[second + 1] << 16;
        to += 2;
    }
    return to;
}
#endif

/* Of 256 * sum1 + sum0 and sum0. */
EDGELINE_INLINE void edgeline_two_sums(uint32_t both, uint32_t low, int32_t *sums)
{
    sums[0] = (int32_t)low;
    sums[1] = (int32_t)(both - low) >> 8;
}

#if EDGELINE_SMLAD

/* x [taps / 2][2 pixels], w [taps / 2]; `first` and `second` [2 channels] of each pixel */
EDGELINE_INLINE void edgeline_tile_2x2(const edgeline_taps *taps, const edgeline_tap *x, const edgeline_weight *w,
                                       int32_t *first, int32_t *second)
{
    const int steps = taps->steps;
    uint32_t both_a = 0, both_b = 0, low_a = 0, low_b = 0;
    const edgeline_weight *end = w + 4 * steps;
#define EDGELINE_FOUR_TAPS                   \
    "ldmia %[w]!, {r4, r5}\n\t"              \
    "ldmia %[x]!, {r6, r8, r9, r10}\n\t"     \
    "smlad %[ba], r6, r4, %[ba]\n\t"         \
    "smlad %[bb], r8, r4, %[bb]\n\t"         \
    "sxtb16 r4, r4\n\t"                      \
    "smlad %[la], r6, r4, %[la]\n\t"         \
    "smlad %[lb], r8, r4, %[lb]\n\t"         \
    "smlad %[ba], r9, r5, %[ba]\n\t"         \
    "smlad %[bb], r10, r5, %[bb]\n\t"        \
    "sxtb16 r5, r5\n\t"                      \
    "smlad %[la], r9, r5, %[la]\n\t"         \
    "smlad %[lb], r10, r5, %[lb]\n\t"
    __asm__ volatile("1:\n\t" EDGELINE_FOUR_TAPS EDGELINE_FOUR_TAPS "cmp %[w], %[end]\n\t"
                     "bne 1b"
                     : [w] "+r"(w), [x] "+r"(x), [ba] "+r"(both_a), [bb] "+r"(both_b), [la] "+r"(low_a),
                       [lb] "+r"(low_b)
                     : [end] "r"(end)
                     : "r4", "r5", "r6", "r8", "r9", "r10", "cc", "memory");
#undef EDGELINE_FOUR_TAPS
    edgeline_two_sums(both_a, low_a, first);
    edgeline_two_sums(both_b, low_b, second);
}

/* x [2 halves interleaved], w the same, [2 pairs of channels] each; sums [4 channels] */
EDGELINE_INLINE void edgeline_tile_1x4(const edgeline_tap *x, const edgeline_weight *w, int steps, int32_t *sums)
{
    uint32_t both_a = 0, both_b = 0, low_a = 0, low_b = 0;
    const edgeline_tap *end = x + 4 * steps;
#define EDGELINE_FOUR_TAPS                   \
    "ldmia %[w]!, {r4, r5, r6, r8}\n\t"      \
    "ldmia %[x]!, {r9, r10}\n\t"             \
    "smlad %[ba], r9, r4, %[ba]\n\t"         \
    "smlad %[bb], r9, r5, %[bb]\n\t"         \
    "sxtb16 r4, r4\n\t"                      \
    "sxtb16 r5, r5\n\t"                      \
    "smlad %[la], r9, r4, %[la]\n\t"         \
    "smlad %[lb], r9, r5, %[lb]\n\t"         \
    "smlad %[ba], r10, r6, %[ba]\n\t"        \
    "smlad %[bb], r10, r8, %[bb]\n\t"        \
    "sxtb16 r6, r6\n\t"                      \
    "sxtb16 r8, r8\n\t"                      \
    "smlad %[la], r10, r6, %[la]\n\t"        \
    "smlad %[lb], r10, r8, %[lb]\n\t"
    __asm__ volatile("1:\n\t" EDGELINE_FOUR_TAPS EDGELINE_FOUR_TAPS "cmp %[x], %[end]\n\t"
                     "bne 1b"
                     : [w] "+r"(w), [x] "+r"(x), [ba] "+r"(both_a), [bb] "+r"(both_b), [la] "+r"(low_a),
                       [lb] "+r"(low_b)
                     : [end] "r"(end)
                     : "r4", "r5", "r6", "r8", "r9", "r10", "cc", "memory");
#undef EDGELINE_FOUR_TAPS
    edgeline_two_sums(both_a, low_a, sums);
    edgeline_two_sums(both_b, low_b, sums + 2);
}

#elif defined(__thumb__) && !defined(__thumb2__) && defined(__GNUC__) && !defined(EDGELINE_PLAIN_C)

/* Cortex-M0+ multiplies eight registers only, and into one of the two: sums lie in the others. x is r0, w r1; the weights
 * of two channels are in r4, two taps in r5 and r6. */
#define EDGELINE_LOAD_TAPS "ldmia r0!, {r6}\n\tuxth r5, r6\n\tlsrs r6, r6, #16\n\t"
#define EDGELINE_LOAD_WEIGHTS "ldmia r1!, {r4}\n\t"
#define EDGELINE_TWO_TAPS(both, low)                                                                             \
    "sxth r2, r4\n\tmuls r2, r5, r2\n\tadd " both ", r2\n\tsxtb r2, r4\n\tmuls r2, r5, r2\n\tadd " low ", r2\n\t" \
    "asrs r2, r4, #16\n\tsxtb r7, r2\n\tmuls r2, r6, r2\n\tadd " both ", r2\n\tmuls r7, r6, r7\n\tadd " low ", r7\n\t"
#define EDGELINE_SAVE                                                                                            \
    ".syntax unified\n\tpush {r4, r5, r6, r7, lr}\n\tmov r4, r8\n\tmov r5, r9\n\tmov r6, r10\n\tmov r7, r11\n\t"  \
    "push {r4, r5, r6, r7}\n\tmov r12, r2\n\tmovs r2, #0\n\tmov r8, r2\n\tmov r9, r2\n\tmov r10, r2\n\t"         \
    "mov r11, r2\n"
#define EDGELINE_RESTORE                                                                                         \
    "bne 1b\n\tmov r4, r8\n\tmov r5, r9\n\tmov r6, r10\n\tmov r7, r11\n\tstmia r3!, {r4, r5, r6, r7}\n\t"        \
    "pop {r4, r5, r6, r7}\n\tmov r8, r4\n\tmov r9, r5\n\tmov r10, r6\n\tmov r11, r7\n\tpop {r4, r5, r6, r7, pc}"
#define EDGELINE_UNUSED __attribute__((unused))

/* sums: 256 * sum1 + sum0, and sum0, of each pixel */
static __attribute__((naked, noinline, unused)) void edgeline_pixels_by_pair(
    EDGELINE_UNUSED const edgeline_tap *x, EDGELINE_UNUSED const edgeline_weight *w,
    EDGELINE_UNUSED const edgeline_weight *end, EDGELINE_UNUSED uint32_t *sums)
{
    __asm__(EDGELINE_SAVE "1:\n\t" EDGELINE_LOAD_WEIGHTS EDGELINE_LOAD_TAPS EDGELINE_TWO_TAPS("r8", "r9")
                EDGELINE_LOAD_TAPS EDGELINE_TWO_TAPS("r10", "r11") "cmp r1, r12\n\t" EDGELINE_RESTORE);
}

/* The same of each pair of channels. */
static __attribute__((naked, noinline, unused)) void edgeline_row_by_pairs(
    EDGELINE_UNUSED const edgeline_tap *x, EDGELINE_UNUSED const edgeline_weight *w,
    EDGELINE_UNUSED const edgeline_tap *end, EDGELINE_UNUSED uint32_t *sums)
{
    __asm__(EDGELINE_SAVE "1:\n\t" EDGELINE_LOAD_TAPS EDGELINE_LOAD_WEIGHTS EDGELINE_TWO_TAPS("r8", "r9")
                EDGELINE_LOAD_WEIGHTS EDGELINE_TWO_TAPS("r10", "r11") "cmp r0, r12\n\t" EDGELINE_RESTORE);
}

EDGELINE_INLINE void edgeline_tile_2x2(const edgeline_taps *taps, const edgeline_tap *x, const edgeline_weight *w,
                                       int32_t *first, int32_t *second)
{
    const int steps = taps->steps;
    uint32_t sums[4];
    edgeline_pixels_by_pair(x, w, w + 4 * steps, sums);
    edgeline_two_sums(sums[0], sums[1], first);
    edgeline_two_sums(sums[2], sums[3], second);
}

EDGELINE_INLINE void edgeline_tile_1x4(const edgeline_tap *x, const edgeline_weight *w, int steps, int32_t *sums)
{
    uint32_t both[4];
    edgeline_row_by_pairs(x, w, x + 4 * steps, both);
    edgeline_two_sums(both[0], both[1], sums);
    edgeline_two_sums(both[2], both[3], sums + 2);
}

#else

/* Two taps of one pixel and two channels: `both` and `low`, modulo 2^32. */
EDGELINE_INLINE void edgeline_two_taps(uint32_t x, int32_t w, uint32_t *both, uint32_t *low)
{
    const uint32_t first = x & 0xFFFFu, second = x >> 16;
    const uint32_t both_first = (uint32_t)(int16_t)w, both_second = (uint32_t)(w >> 16);
    const uint32_t low_first = (uint32_t)(int8_t)w, low_second = (uint32_t)(int8_t)(w >> 16);
    *both += first * both_first + second * both_second;
    *low += first * low_first + second * low_second;
}

EDGELINE_INLINE void edgeline_tile_2x2(const edgeline_taps *taps, const edgeline_tap *x, const edgeline_weight *w,
                                       int32_t *first, int32_t *second)
{
    const int steps = taps->steps;
    uint32_t both_a = 0, both_b = 0, low_a = 0, low_b = 0;
    for (const edgeline_weight *end = w + 4 * steps; w < end; w++, x += 2) {
        edgeline_two_taps(x[0], *w, &both_a, &low_a);
        edgeline_two_taps(x[1], *w, &both_b, &low_b);
    }
    edgeline_two_sums(both_a, low_a, first);
    edgeline_two_sums(both_b, low_b, second);
}

EDGELINE_INLINE void edgeline_tile_1x4(const edgeline_tap *x, const edgeline_weight *w, int steps, int32_t *sums)
{
    uint32_t both_a = 0, both_b = 0, low_a = 0, low_b = 0;
    for (const edgeline_tap *end = x + 4 * steps; x < end; x++, w += 2) {
        edgeline_two_taps(*x, w[0], &both_a, &low_a);
        edgeline_two_taps(*x, w[1], &both_b, &low_b);
    }
    edgeline_two_sums(both_a, low_a, sums);
    edgeline_two_sums(both_b, low_b, sums + 2);
}

#endif

#define EDGELINE_GATHER_RUN(taps, from, second, to) edgeline_gather_run(from, second, (taps)->run, to)
/* Where a row of a matrix is gathered as two pixels, the second begins here. */
#define EDGELINE_SECOND_HALF(taps) (taps)->run

#else /* EDGELINE_DOT_OFFSET 128 */

enum { EDGELINE_STEP = 16 };
typedef int8_t edgeline_tap;
typedef int8_t edgeline_weight;

#if defined(__ARM_FEATURE_MVE) && !defined(EDGELINE_PLAIN_C)
#include <arm_mve.h>
typedef int8x16_t edgeline_sixteen;
EDGELINE_INLINE edgeline_sixteen edgeline_sixteen_load(const int8_t *from) { return vldrbq_s8(from); }
EDGELINE_INLINE int32_t edgeline_dot16(int32_t sum, edgeline_sixteen x, edgeline_sixteen w)
{
    return vmladavaq_s8(sum, x, w);
}
/* Up to 16 bytes, less 128; as many as a vector has are read and written. */
EDGELINE_INLINE void edgeline_signed(const uint8_t *from, int8_t *to, int count)
{
    (void)count;
    vstrbq_u8((uint8_t *)to, veorq_u8(vldrbq_u8(from), vdupq_n_u8(0x80)));
}
#else
typedef struct {
    int8_t n[16];
} edgeline_sixteen;
EDGELINE_INLINE edgeline_sixteen edgeline_sixteen_load(const int8_t *from)
{
    edgeline_sixteen sixteen;
    memcpy(&sixteen, from, sizeof sixteen);
    return sixteen;
}
EDGELINE_INLINE int32_t edgeline_dot16(int32_t sum, edgeline_sixteen x, edgeline_sixteen w)
{
    for (int i = 0; i < 16; i++) sum += x.n[i] * w.n[i];
    return sum;
}
EDGELINE_INLINE void edgeline_signed(const uint8_t *from, int8_t *to, int count)
{
    for (int i = 0; i < count && i < 16; i++) to[i] = (int8_t)(from[i] - 128);
}
#endif

/* A run of a pixel's bytes, and of that of a second pixel `second` bytes behind it. Up to 15 bytes are written behind
 * the last run, so there is a vector more for each pixel. */
EDGELINE_INLINE edgeline_tap *edgeline_gather_run(const uint8_t *from, ptrdiff_t second, int run, edgeline_tap *to,
                                                  ptrdiff_t size)
{
    edgeline_signed(from, to, run);
    edgeline_signed(from + second, to + size, run);
    for (int k = 16; k < run; k += 16) {
        edgeline_signed(from + k, to + k, run - k);
        edgeline_signed(from + second + k, to + size + k, run - k);
    }
    return to + run;
}

/* x [2 pixels, `apart`][steps][16], w [steps][2 channels][16]; `first` and `second` [2 channels] of each pixel */
EDGELINE_INLINE void edgeline_tile_2x2(const edgeline_taps *taps, const edgeline_tap *x, const edgeline_weight *w,
                                       int32_t *first, int32_t *second)
{
    const int steps = taps->steps;
    const edgeline_tap *other = x + taps->apart;
    int32_t a = 0, b = 0, c = 0, d = 0;
    for (int k = 0; k < steps; k++, x += 16, other += 16, w += 32) {
        const edgeline_sixteen w0 = edgeline_sixteen_load(w), w1 = edgeline_sixteen_load(w + 16);
        const edgeline_sixteen x0 = edgeline_sixteen_load(x), x1 = edgeline_sixteen_load(other);
        a = edgeline_dot16(a, x0, w0), b = edgeline_dot16(b, x0, w1);
        c = edgeline_dot16(c, x1, w0), d = edgeline_dot16(d, x1, w1);
    }
    first[0] = a, first[1] = b, second[0] = c, second[1] = d;
}

/* x [steps][16], w [steps][4 channels][16]; sums [4 channels] */
EDGELINE_INLINE void edgeline_tile_1x4(const edgeline_tap *x, const edgeline_weight *w, int steps, int32_t *sums)
{
    int32_t a = 0, b = 0, c = 0, d = 0;
    for (int k = 0; k < steps; k++, x += 16, w += 64) {
        const edgeline_sixteen x0 = edgeline_sixteen_load(x);
        a = edgeline_dot16(a, x0, edgeline_sixteen_load(w));
        b = edgeline_dot16(b, x0, edgeline_sixteen_load(w + 16));
        c = edgeline_dot16(c, x0, edgeline_sixteen_load(w + 32));
        d = edgeline_dot16(d, x0, edgeline_sixteen_load(w + 48));
    }
    sums[0] = a, sums[1] = b, sums[2] = c, sums[3] = d;
}

#define EDGELINE_GATHER_RUN(taps, from, second, to) \
    edgeline_gather_run(from, second, (taps)->run, to, (taps)->apart)
#define EDGELINE_SECOND_HALF(taps) 0

#endif

/* Gathers `rows` rows of the taps of a pixel at `x` and of one `second` bytes behind it. */
static EDGELINE_SHARED void edgeline_gather(const edgeline_taps *taps, int rows, const uint8_t *x, ptrdiff_t second,
                                            edgeline_tap *buffer)
{
    do {
        const uint8_t *run = x;
        int j = taps->runs;
        do {
            buffer = EDGELINE_GATHER_RUN(taps, run, second, buffer);
            run += taps->next;
        } while (--j > 0);
        x += taps->row;
    } while (--rows > 0);
}
