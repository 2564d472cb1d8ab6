/* The vector of floats that the target has: EDGELINE_LANES of them, in C99 alone a single one.
 *
 * The float kernels are written once, for any number of lanes. EDGELINE_BLOCK channels lie beside each other in packed
 * weights, whatever the lanes: a block is one vector of AVX-512, two of AVX, four of SSE2 or NEON. EDGELINE_REGISTERS
 * vectors may be alive at once without spilling. -DEDGELINE_SCALAR asks for C99 alone. */

#define EDGELINE_INLINE static inline

/* Vectors wider than a block of channels fit no weights: sources for ARM compute on x86 as C99 alone. */
#if defined(__GNUC__) && !defined(EDGELINE_SCALAR) && !(defined(__x86_64__) && EDGELINE_BLOCK < 16)
#if defined(__AVX512F__)
#define EDGELINE_LANES 16
#define EDGELINE_REGISTERS 32
#elif defined(__AVX__)
#define EDGELINE_LANES 8
#define EDGELINE_REGISTERS 16
#elif defined(__SSE2__)
#define EDGELINE_LANES 4
#define EDGELINE_REGISTERS 16
#elif defined(__aarch64__) && !defined(__ARM_BIG_ENDIAN)
#define EDGELINE_LANES 4
#define EDGELINE_REGISTERS 32
#define EDGELINE_NUMBERS 4
#elif defined(__ARM_NEON) && !defined(__ARM_BIG_ENDIAN)
#define EDGELINE_LANES 4
#define EDGELINE_REGISTERS 16
#define EDGELINE_NUMBERS 4
#endif
#endif

/* Numbers that one load brings, of which each product takes one by its place: NEON has instructions for that. Else it
 * is one, in all lanes. */
#ifndef EDGELINE_NUMBERS
#define EDGELINE_NUMBERS 1
#endif

#if defined(__GNUC__)
#undef EDGELINE_INLINE
#define EDGELINE_INLINE static inline __attribute__((always_inline, unused))
#endif

/* Before a loop whose bounds are literals: arrays that it indexes then live in registers. -DEDGELINE_UNROLL= leaves
 * them loops, for builds that check every access. */
#if defined(EDGELINE_UNROLL)
#elif defined(__clang__)
#define EDGELINE_UNROLL _Pragma("clang loop unroll(full)")
#elif defined(__GNUC__)
#define EDGELINE_UNROLL _Pragma("GCC unroll 128")
#else
#define EDGELINE_UNROLL
#endif

/* Before a loop that is to stay one. */
#if defined(__clang__)
#define EDGELINE_NO_UNROLL _Pragma("clang loop unroll(disable)")
#elif defined(__GNUC__)
#define EDGELINE_NO_UNROLL _Pragma("GCC unroll 1")
#else
#define EDGELINE_NO_UNROLL
#endif

/* What was written to an array is read from there, not from the registers that it came from. */
#if defined(__GNUC__)
#define EDGELINE_KEEP_IN_MEMORY(array) __asm__("" : : "r"(array) : "memory")
#else
#define EDGELINE_KEEP_IN_MEMORY(array) (void)(array)
#endif

/* What a pointer points to is read here, not before the loop around: registers are for the sums. */
#if defined(__GNUC__)
#define EDGELINE_READ_HERE(pointer) __asm__("" : "+r"(pointer))
#else
#define EDGELINE_READ_HERE(pointer) (void)(pointer)
#endif

#ifdef EDGELINE_LANES

#if defined(__x86_64__)
#include <immintrin.h>
#elif EDGELINE_NUMBERS == 4
#include <arm_neon.h>
#endif

typedef float edgeline_vf __attribute__((vector_size(4 * EDGELINE_LANES)));
typedef int32_t edgeline_vi __attribute__((vector_size(4 * EDGELINE_LANES)));
typedef uint32_t edgeline_vu __attribute__((vector_size(4 * EDGELINE_LANES)));
typedef float edgeline_vf_memory __attribute__((vector_size(4 * EDGELINE_LANES), aligned(4), may_alias));

EDGELINE_INLINE edgeline_vf edgeline_load(const float *from) { return *(const edgeline_vf_memory *)from; }
EDGELINE_INLINE void edgeline_store(float *to, edgeline_vf v) { *(edgeline_vf_memory *)to = v; }
EDGELINE_INLINE edgeline_vf edgeline_all(float x) { return x - (edgeline_vf){0}; }

/* x * 2^n, where `shifted` is n + 1.5 * 2^23: the whole number then stands in its last bits. No result below 2^-126. */
EDGELINE_INLINE edgeline_vf edgeline_times_power_of_2(edgeline_vf x, edgeline_vf shifted)
{
    return (edgeline_vf)((edgeline_vu)x + ((edgeline_vu)shifted << 23));
}

EDGELINE_INLINE edgeline_vf edgeline_load_first(const float *from, int count)
{
#if defined(__AVX512F__)
    if (count >= EDGELINE_LANES) return edgeline_load(from);
    return (edgeline_vf)_mm512_maskz_loadu_ps((__mmask16)(count > 0 ? (1u << count) - 1u : 0u), from);
#elif EDGELINE_NUMBERS == 4
    if (count >= 4) return edgeline_load(from);
    float32x4_t v = vdupq_n_f32(0.0f);
    if (count > 0) v = vld1q_lane_f32(from, v, 0);
    if (count > 1) v = vld1q_lane_f32(from + 1, v, 1);
    if (count > 2) v = vld1q_lane_f32(from + 2, v, 2);
    return (edgeline_vf)v;
#else
    edgeline_vf v = edgeline_all(0.0f);
    if (count > 0) memcpy(&v, from, (size_t)(count < EDGELINE_LANES ? count : EDGELINE_LANES) * sizeof(float));
    return v;
#endif
}

/* The numbers at even and at odd places of two vectors that lie behind each other. */
EDGELINE_INLINE void edgeline_unzip(edgeline_vf a, edgeline_vf b, edgeline_vf *even, edgeline_vf *odd)
{
#if EDGELINE_LANES == 16
#define EDGELINE_EVEN 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30
#define EDGELINE_ODD 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31
#elif EDGELINE_LANES == 8
#define EDGELINE_EVEN 0, 2, 4, 6, 8, 10, 12, 14
#define EDGELINE_ODD 1, 3, 5, 7, 9, 11, 13, 15
#else
#define EDGELINE_EVEN 0, 2, 4, 6
#define EDGELINE_ODD 1, 3, 5, 7
#endif
#if defined(__clang__)
    *even = __builtin_shufflevector(a, b, EDGELINE_EVEN);
    *odd = __builtin_shufflevector(a, b, EDGELINE_ODD);
#else
    *even = __builtin_shuffle(a, b, (edgeline_vi){EDGELINE_EVEN});
    *odd = __builtin_shuffle(a, b, (edgeline_vi){EDGELINE_ODD});
#endif
}

/* The first `count` lanes, which is a literal and may be more than there are, or none. */
EDGELINE_INLINE void edgeline_store_first(float *to, edgeline_vf v, int count)
{
#if defined(__AVX512F__)
    if (count < EDGELINE_LANES)
        _mm512_mask_storeu_ps(to, (__mmask16)((1u << (count > 0 ? count : 0)) - 1u), (__m512)v);
    else
        edgeline_store(to, v);
#elif EDGELINE_NUMBERS == 4
    if (count >= 4)
        edgeline_store(to, v);
    else if (count > 1)
        vst1_f32(to, vget_low_f32((float32x4_t)v));
    if (count == 1) vst1q_lane_f32(to, (float32x4_t)v, 0);
    if (count == 3) vst1q_lane_f32(to + 2, (float32x4_t)v, 2);
#else
    if (count > 0) memcpy(to, &v, (size_t)(count < EDGELINE_LANES ? count : EDGELINE_LANES) * sizeof(float));
#endif
}

/* The bits of `a` where the condition's lanes are -1, those of `b` where they are 0. */
EDGELINE_INLINE edgeline_vf edgeline_where(edgeline_vi condition, edgeline_vf a, edgeline_vf b)
{
    return (edgeline_vf)((condition & (edgeline_vi)a) | (~condition & (edgeline_vi)b));
}

EDGELINE_INLINE edgeline_vf edgeline_min(edgeline_vf a, edgeline_vf b)
{
#if defined(__AVX512F__)
    return (edgeline_vf)_mm512_min_ps((__m512)a, (__m512)b);
#elif defined(__AVX__)
    return (edgeline_vf)_mm256_min_ps((__m256)a, (__m256)b);
#elif defined(__SSE2__)
    return (edgeline_vf)_mm_min_ps((__m128)a, (__m128)b);
#elif EDGELINE_NUMBERS == 4
    return (edgeline_vf)vminq_f32((float32x4_t)a, (float32x4_t)b);
#else
    return edgeline_where(a < b, a, b);
#endif
}

EDGELINE_INLINE edgeline_vf edgeline_max(edgeline_vf a, edgeline_vf b)
{
#if defined(__AVX512F__)
    return (edgeline_vf)_mm512_max_ps((__m512)a, (__m512)b);
#elif defined(__AVX__)
    return (edgeline_vf)_mm256_max_ps((__m256)a, (__m256)b);
#elif defined(__SSE2__)
    return (edgeline_vf)_mm_max_ps((__m128)a, (__m128)b);
#elif EDGELINE_NUMBERS == 4
    return (edgeline_vf)vmaxq_f32((float32x4_t)a, (float32x4_t)b);
#else
    return edgeline_where(a > b, a, b);
#endif
}

#else /* C99 alone */

#define EDGELINE_LANES 1
#define EDGELINE_REGISTERS 16

typedef float edgeline_vf;

EDGELINE_INLINE edgeline_vf edgeline_load(const float *from) { return *from; }
EDGELINE_INLINE void edgeline_store(float *to, edgeline_vf v) { *to = v; }
EDGELINE_INLINE edgeline_vf edgeline_load_first(const float *from, int count)
{
    return count > 0 ? *from : 0.0f;
}
EDGELINE_INLINE void edgeline_unzip(edgeline_vf a, edgeline_vf b, edgeline_vf *even, edgeline_vf *odd)
{
    *even = a;
    *odd = b;
}
EDGELINE_INLINE void edgeline_store_first(float *to, edgeline_vf v, int count)
{
    if (count > 0) *to = v;
}
EDGELINE_INLINE edgeline_vf edgeline_all(float x) { return x; }
EDGELINE_INLINE edgeline_vf edgeline_where(int condition, edgeline_vf a, edgeline_vf b) { return condition ? a : b; }
EDGELINE_INLINE edgeline_vf edgeline_min(edgeline_vf a, edgeline_vf b) { return a < b ? a : b; }
EDGELINE_INLINE edgeline_vf edgeline_max(edgeline_vf a, edgeline_vf b) { return a > b ? a : b; }

EDGELINE_INLINE edgeline_vf edgeline_times_power_of_2(edgeline_vf x, edgeline_vf shifted)
{
    uint32_t bits, power;
    memcpy(&bits, &x, sizeof bits);
    memcpy(&power, &shifted, sizeof power);
    bits += power << 23;
    memcpy(&x, &bits, sizeof x);
    return x;
}

#endif

/* A load of EDGELINE_NUMBERS numbers, or of one; and sum + w * x[place]. */
EDGELINE_INLINE edgeline_vf edgeline_numbers(const float *from, const int count)
{
    return EDGELINE_NUMBERS == 1 || count == 1 ? edgeline_all(*from) : edgeline_load(from);
}
EDGELINE_INLINE edgeline_vf edgeline_plus_product(edgeline_vf sum, edgeline_vf x, const int place, edgeline_vf w)
{
#if EDGELINE_NUMBERS == 1
    (void)place;
    return sum + x * w;
#elif defined(__aarch64__)
    return sum + edgeline_all(x[place]) * w;
#else /* GCC makes no vectors of float operators here, because NEON takes denormal numbers for 0 */
    const float32x4_t s = (float32x4_t)sum, v = (float32x4_t)w;
    const float32x2_t low = vget_low_f32((float32x4_t)x), high = vget_high_f32((float32x4_t)x);
    switch (place) {
    case 0: return (edgeline_vf)vmlaq_lane_f32(s, v, low, 0);
    case 1: return (edgeline_vf)vmlaq_lane_f32(s, v, low, 1);
    case 2: return (edgeline_vf)vmlaq_lane_f32(s, v, high, 0);
    default: return (edgeline_vf)vmlaq_lane_f32(s, v, high, 1);
    }
#endif
}

#if defined(__GNUC__)
#define EDGELINE_ALIGNED __attribute__((aligned(64)))
#else
#define EDGELINE_ALIGNED
#endif
