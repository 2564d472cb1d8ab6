/* The dot products of dot_u8s8.c with NEON: four lanes of int32, signed by signed bytes.
 *
 * sdot adds four products in an instruction, and takes four numbers of sixteen by their place. Without it, 16-bit
 * products are added in pairs into twice as many sums (edgeline_dots), which become one at the end: -128 * -128 * 2
 * needs 17 bits, so nothing is added in 16.
 *
 * needs: vector grid */

#if defined(__GNUC__) && defined(__ARM_NEON) && !defined(__ARM_BIG_ENDIAN) && !defined(EDGELINE_SCALAR) && \
    EDGELINE_DOT_OFFSET == 128

#include <arm_neon.h>

#define EDGELINE_SUMS 4
#define EDGELINE_OPERAND 1
#define EDGELINE_FOURS 4
#define EDGELINE_HAS_VNNI 0
#if defined(__ARM_FEATURE_DOTPROD) && defined(__aarch64__)
#define EDGELINE_DOT_ROOM 32 /* sums that may be alive, with an operand beside */
#define EDGELINE_DOT_VECTORS 4
#elif defined(__aarch64__)
#define EDGELINE_DOT_ROOM 16
#define EDGELINE_DOT_VECTORS 2
#else
#define EDGELINE_DOT_ROOM 8
#define EDGELINE_DOT_VECTORS 1
#endif

typedef int32x4_t edgeline_sums;
typedef float32x4_t edgeline_factors;
typedef int32x4_t edgeline_x4;
typedef int32x4_t edgeline_w4;

EDGELINE_INLINE int8x16_t edgeline_as_bytes(int32x4_t v) { return vreinterpretq_s8_s32(v); }
EDGELINE_INLINE int32x4_t edgeline_as_lanes(uint8x16_t v) { return vreinterpretq_s32_u8(v); }

EDGELINE_INLINE edgeline_sums edgeline_sums_zero(void) { return vdupq_n_s32(0); }
EDGELINE_INLINE edgeline_sums edgeline_sums_all(int32_t n) { return vdupq_n_s32(n); }
EDGELINE_INLINE edgeline_sums edgeline_sums_load(const int32_t *from) { return vld1q_s32(from); }
EDGELINE_INLINE edgeline_sums edgeline_sums_add(edgeline_sums a, edgeline_sums b) { return vaddq_s32(a, b); }
EDGELINE_INLINE edgeline_sums edgeline_products(edgeline_sums a, edgeline_sums b) { return vmulq_s32(a, b); }
EDGELINE_INLINE edgeline_sums edgeline_sums_max(edgeline_sums a, edgeline_sums b) { return vmaxq_s32(a, b); }
EDGELINE_INLINE edgeline_factors edgeline_factors_load(const float *from) { return vld1q_f32(from); }
EDGELINE_INLINE edgeline_factors edgeline_factors_all(float x) { return vdupq_n_f32(x); }

EDGELINE_INLINE edgeline_x4 edgeline_x4_all(const uint8_t *from)
{
    int32_t four;
    memcpy(&four, from, sizeof four);
    return vdupq_n_s32(four);
}
EDGELINE_INLINE edgeline_x4 edgeline_x4_load(const uint8_t *from) { return edgeline_as_lanes(vld1q_u8(from)); }
EDGELINE_INLINE edgeline_w4 edgeline_w4_load(const int8_t *from) { return vreinterpretq_s32_s8(vld1q_s8(from)); }
EDGELINE_INLINE edgeline_w4 edgeline_w4_all(const int8_t *from)
{
    int32_t four;
    memcpy(&four, from, sizeof four);
    return vdupq_n_s32(four);
}
/* x - 128 as a signed byte */
EDGELINE_INLINE edgeline_x4 edgeline_x4_flipped(edgeline_x4 x)
{
    return edgeline_as_lanes(veorq_u8(vreinterpretq_u8_s32(x), vdupq_n_u8(0x80)));
}
EDGELINE_INLINE edgeline_x4 edgeline_x4_max(edgeline_x4 a, edgeline_x4 b)
{
    return edgeline_as_lanes(vmaxq_u8(vreinterpretq_u8_s32(a), vreinterpretq_u8_s32(b)));
}

/* The sum of a and b, where `place` names the four numbers of b that meet all fours of a; -1: each lane its own. Both
 * are signed bytes. */
#if defined(__ARM_FEATURE_DOTPROD) && defined(__aarch64__)
typedef int32x4_t edgeline_dots;
EDGELINE_INLINE edgeline_dots edgeline_dots_from(edgeline_sums sums) { return sums; }
EDGELINE_INLINE edgeline_dots edgeline_dots_add(edgeline_dots a, edgeline_dots b) { return vaddq_s32(a, b); }
EDGELINE_INLINE edgeline_sums edgeline_dots_sums(edgeline_dots dots) { return dots; }
EDGELINE_INLINE edgeline_dots edgeline_dot4_signed(edgeline_dots sum, int32x4_t a, int32x4_t b, const int place)
{
    const int8x16_t first = edgeline_as_bytes(a), second = edgeline_as_bytes(b);
    switch (place) {
    case 0: return vdotq_laneq_s32(sum, first, second, 0);
    case 1: return vdotq_laneq_s32(sum, first, second, 1);
    case 2: return vdotq_laneq_s32(sum, first, second, 2);
    case 3: return vdotq_laneq_s32(sum, first, second, 3);
    default: return vdotq_s32(sum, first, second);
    }
}
#else
typedef struct {
    int32x4_t low, high; /* two sums of each of the lower lanes, and of the upper */
} edgeline_dots;
EDGELINE_INLINE edgeline_dots edgeline_dots_from(edgeline_sums sums)
{
    const int32x4x2_t apart = vzipq_s32(sums, vdupq_n_s32(0));
    const edgeline_dots dots = {apart.val[0], apart.val[1]};
    return dots;
}
EDGELINE_INLINE edgeline_sums edgeline_dots_sums(edgeline_dots dots)
{
#if defined(__aarch64__)
    return vpaddq_s32(dots.low, dots.high);
#else
    return vcombine_s32(vpadd_s32(vget_low_s32(dots.low), vget_high_s32(dots.low)),
                        vpadd_s32(vget_low_s32(dots.high), vget_high_s32(dots.high)));
#endif
}
EDGELINE_INLINE edgeline_dots edgeline_dots_add(edgeline_dots a, edgeline_dots b)
{
    const edgeline_dots dots = {vaddq_s32(a.low, b.low), vaddq_s32(a.high, b.high)};
    return dots;
}
EDGELINE_INLINE edgeline_dots edgeline_dot4_signed(edgeline_dots sum, int32x4_t a, int32x4_t b, const int place)
{
    const int32x2_t low = vget_low_s32(b), high = vget_high_s32(b);
    switch (place) {
    case 0: b = vdupq_lane_s32(low, 0); break;
    case 1: b = vdupq_lane_s32(low, 1); break;
    case 2: b = vdupq_lane_s32(high, 0); break;
    case 3: b = vdupq_lane_s32(high, 1); break;
    default: break;
    }
    const int8x16_t first = edgeline_as_bytes(a), second = edgeline_as_bytes(b);
    sum.low = vpadalq_s16(sum.low, vmull_s8(vget_low_s8(first), vget_low_s8(second)));
#if defined(__aarch64__)
    sum.high = vpadalq_s16(sum.high, vmull_high_s8(first, second));
#else
    sum.high = vpadalq_s16(sum.high, vmull_s8(vget_high_s8(first), vget_high_s8(second)));
#endif
    return sum;
}
#endif

/* Fours that one load brings, of which each product takes one by its place; a single one is in all lanes. */
typedef int32x4_t edgeline_fours_x;
typedef int32x4_t edgeline_fours_w;
EDGELINE_INLINE edgeline_fours_x edgeline_fours_of_x(const uint8_t *from, const int count)
{
    return edgeline_x4_flipped(count == 1 ? edgeline_x4_all(from) : edgeline_x4_load(from));
}
EDGELINE_INLINE edgeline_fours_w edgeline_fours_of_w(const int8_t *from, const int count)
{
    return count == 1 ? edgeline_w4_all(from) : edgeline_w4_load(from);
}
EDGELINE_INLINE edgeline_dots edgeline_dot4_by_x(edgeline_dots sum, edgeline_fours_x x, const int place, edgeline_w4 w)
{
    return edgeline_dot4_signed(sum, w, x, place);
}
EDGELINE_INLINE edgeline_dots edgeline_dot4_by_w(edgeline_dots sum, edgeline_x4 x, edgeline_fours_w w, const int place)
{
    return edgeline_dot4_signed(sum, x, w, place);
}
/* What the planar layer's copy of the input holds. */
EDGELINE_INLINE edgeline_x4 edgeline_x4_expanded(edgeline_x4 x) { return edgeline_x4_flipped(x); }

EDGELINE_INLINE edgeline_factors edgeline_settled(edgeline_factors x)
{
    __asm__("" : "+w"(x));
    return x;
}

/* Rounds x, in steps of the grid, onto the grid: halves to even; NaN becomes the lowest. */
EDGELINE_INLINE edgeline_sums edgeline_onto(edgeline_factors x, const edgeline_grid *grid)
{
    const float32x4_t low = vdupq_n_f32((float)(grid->low - grid->zero_point));
    const float32x4_t high = vdupq_n_f32((float)(grid->high - grid->zero_point));
#if defined(__aarch64__)
    x = vminq_f32(vmaxnmq_f32(x, low), high);
    return vaddq_s32(vcvtnq_s32_f32(x), vdupq_n_s32(grid->zero_point));
#else
    x = vminq_f32(vbslq_f32(vcgtq_f32(x, low), x, low), high);
    /* 1.5 * 2^23: adding it rounds to a whole number, halves to even, which stands in the last bits. */
    x = vaddq_f32(edgeline_settled(x), vdupq_n_f32(12582912.0f));
    return vaddq_s32(vreinterpretq_s32_f32(x), vdupq_n_s32(grid->zero_point - 0x4B400000));
#endif
}
EDGELINE_INLINE edgeline_factors edgeline_times(edgeline_sums sum, edgeline_factors factor)
{
    return vmulq_f32(vcvtq_f32_s32(sum), factor);
}
EDGELINE_INLINE edgeline_factors edgeline_plus(edgeline_factors a, edgeline_factors b) { return vaddq_f32(a, b); }
EDGELINE_INLINE edgeline_factors edgeline_over(edgeline_factors a, edgeline_factors b)
{
#if defined(__aarch64__)
    return vdivq_f32(a, b);
#else
    float x[4], y[4];
    vst1q_f32(x, a), vst1q_f32(y, b);
    for (int i = 0; i < 4; i++) x[i] /= y[i];
    return vld1q_f32(x);
#endif
}

/* Bytes to lanes and back; `count` of them, all lanes at most. */
EDGELINE_INLINE edgeline_sums edgeline_bytes_load(const uint8_t *from)
{
    uint32_t four;
    memcpy(&four, from, sizeof four);
    const uint16x8_t pairs = vmovl_u8(vreinterpret_u8_u32(vdup_n_u32(four)));
    return vreinterpretq_s32_u32(vmovl_u16(vget_low_u16(pairs)));
}
EDGELINE_INLINE void edgeline_bytes_store(uint8_t *to, edgeline_sums v, int count)
{
    const uint16x4_t pairs = vmovn_u32(vreinterpretq_u32_s32(v));
    const uint32x2_t bytes = vreinterpret_u32_u8(vmovn_u16(vcombine_u16(pairs, pairs)));
    const uint32_t four = vget_lane_u32(bytes, 0);
    if (count >= 4)
        memcpy(to, &four, 4);
    else
        for (int i = 0; i < count; i++) to[i] = (uint8_t)(four >> (8 * i));
}
EDGELINE_INLINE edgeline_factors edgeline_floats_load_first(const float *from, int count)
{
    return (edgeline_factors)edgeline_load_first(from, count);
}
EDGELINE_INLINE void edgeline_floats_store(float *to, edgeline_factors v, int count)
{
    edgeline_store_first(to, (edgeline_vf)v, count);
}

/* a | b << 8 * byte, where a has nothing from that byte on */
EDGELINE_INLINE edgeline_sums edgeline_with_byte(edgeline_sums a, edgeline_sums b, int byte)
{
    switch (byte) {
    case 0: return vorrq_s32(a, b);
    case 1: return vsliq_n_s32(a, b, 8);
    case 2: return vsliq_n_s32(a, b, 16);
    default: return vsliq_n_s32(a, b, 24);
    }
}
/* total + the lowest `count` bytes of each lane */
EDGELINE_INLINE edgeline_sums edgeline_add_bytes(edgeline_sums total, edgeline_sums v, int count)
{
    uint8x16_t bytes = vreinterpretq_u8_s32(v);
    if (count < 4) bytes = vandq_u8(bytes, vreinterpretq_u8_u32(vdupq_n_u32((1u << (8 * count)) - 1u)));
    return vreinterpretq_s32_u32(vpadalq_u16(vreinterpretq_u32_s32(total), vpaddlq_u8(bytes)));
}
/* Every byte of every lane by a table of 256. */
EDGELINE_INLINE edgeline_sums edgeline_looked_up(edgeline_sums v, const uint8_t *table)
{
#if defined(__aarch64__)
    /* A place outside of 64 gives 0 the first time, and leaves what is there after it. */
    uint8x16_t place = vreinterpretq_u8_s32(v), found = vdupq_n_u8(0);
    EDGELINE_UNROLL
    for (int i = 0; i < 4; i++) {
        const uint8x16x4_t part = {{vld1q_u8(table + 64 * i), vld1q_u8(table + 64 * i + 16),
                                    vld1q_u8(table + 64 * i + 32), vld1q_u8(table + 64 * i + 48)}};
        found = i == 0 ? vqtbl4q_u8(part, place) : vqtbx4q_u8(found, part, place);
        place = vsubq_u8(place, vdupq_n_u8(64));
    }
    return edgeline_as_lanes(found);
#else
    uint8_t bytes[16];
    vst1q_u8(bytes, vreinterpretq_u8_s32(v));
    for (int i = 0; i < 16; i++) bytes[i] = table[bytes[i]];
    return edgeline_as_lanes(vld1q_u8(bytes));
#endif
}
/* The same for lanes that hold one byte. */
EDGELINE_INLINE edgeline_sums edgeline_looked_up_one(edgeline_sums v, const uint8_t *table)
{
#if defined(__aarch64__)
    return vandq_s32(edgeline_looked_up(v, table), vdupq_n_s32(255));
#else
    int32_t lanes[4];
    vst1q_s32(lanes, v);
    for (int i = 0; i < 4; i++) lanes[i] = table[lanes[i]];
    return vld1q_s32(lanes);
#endif
}

#endif
