/* One sum brought onto a grid, as edgeline_onto(edgeline_times(sum, factor)) does it, bit for bit: (float)sum * factor
 * rounded to a float, to the nearest whole number, halves to even, clamped.
 *
 * With an FPU that is five instructions. Without one, or with -DEDGELINE_FIXED_POINT, it is done in integers: a factor
 * is m * 2^-s with 24 bits of m, and sum * m is rounded once. That is what the float form gives unless rounding to a
 * float first moves a number onto or across a half: it moves numbers below 512 by less than 2^-14, so numbers that are
 * nearer to a half than that, one of 8,000, take the long way, which rounds twice. So do sums of more than 22 bits.
 *
 * needs: dot_u8s8 */

#if defined(__GNUC__)
#define EDGELINE_SHARED __attribute__((noinline)) /* one copy for all layers */
#else
#define EDGELINE_SHARED
#endif

#if defined(__arm__) && !defined(__ARM_FP) && !defined(EDGELINE_FIXED_POINT)
#define EDGELINE_FIXED_POINT
#endif

EDGELINE_INLINE int32_t edgeline_clamped(int32_t n, const edgeline_grid *grid)
{
    n += grid->zero_point;
    n = n < grid->low ? grid->low : n;
    return n > grid->high ? grid->high : n;
}

#ifdef EDGELINE_FIXED_POINT

/* n * 2^-shift as a whole number, halves to even; shift 0 to 63. */
static EDGELINE_SHARED uint64_t edgeline_halved(uint64_t n, int shift)
{
    const uint64_t down = n >> shift, rest = n - (down << shift), half = shift > 0 ? (uint64_t)1 << (shift - 1) : 1;
    return down + (rest > half || (rest == half && (down & 1u)));
}

/* n rounded to the 24 bits of a float. */
static EDGELINE_SHARED uint64_t edgeline_as_float(uint64_t n)
{
    int beyond = 0;
    while (n >> beyond >= (uint64_t)1 << 24) beyond++;
    return edgeline_halved(n, beyond) << beyond;
}

/* The long way: both roundings as the float form does them. What is far beyond any grid comes out as 2^15. */
static EDGELINE_SHARED int32_t edgeline_rounded_twice(int32_t sum, uint32_t m, int s)
{
    uint64_t n = sum < 0 ? (uint64_t)0 - (uint64_t)(int64_t)sum : (uint64_t)sum;
    n = edgeline_as_float(edgeline_as_float(n) * m); /* (float)sum is at most 2^31 */
    const int up = s >= 0 ? 0 : s > -15 ? -s : 15;
    n = s > 63 ? 0 : s > 0 ? edgeline_halved(n, s) : n;
    const int32_t whole = n >= (uint64_t)1 << (15 - up) ? 1 << 15 : (int32_t)(n << up);
    return sum < 0 ? -whole : whole;
}

static EDGELINE_SHARED int32_t edgeline_rounded(int32_t sum, float factor, const edgeline_grid *grid)
{
    uint32_t bits;
    memcpy(&bits, &factor, sizeof bits);
    const int exponent = (int)(bits >> 23), s = exponent > 0 ? 150 - exponent : 149;
    const int32_t m = (int32_t)(exponent > 0 ? (bits & 0x7FFFFFu) | 0x800000u : bits);
    const int up = s < 32 ? 32 - s : 0; /* sum * 2^up goes with 32 for s */
    const int32_t most = (1 << 22) >> (up < 22 ? up : 22);
    if (s >= 10 && s <= 63 && sum < most && sum > -most) {
        /* sum * m / 2^16, rounded down, without 64 bits: it stays below 2^30. */
        const int32_t wide = sum * (1 << up), high = wide >> 16, low = wide & 0xFFFF;
        const uint32_t below = (uint32_t)low * ((uint32_t)m & 0xFFFFu);
        const int32_t product = high * m + low * (m >> 16) + (int32_t)(below >> 16);
        const int32_t fixed = product >> (s + up - 32); /* 16 bits behind the point */
        const int32_t near = (fixed & 0xFFFF) - 0x8000;
        if (near < -5 || near > 4) return edgeline_clamped((fixed + 0x8000) >> 16, grid);
    }
    return edgeline_clamped(edgeline_rounded_twice(sum, (uint32_t)m, s), grid);
}

#else

EDGELINE_INLINE int32_t edgeline_rounded(int32_t sum, float factor, const edgeline_grid *grid)
{
#if defined(__arm__) && defined(__ARM_FP) && defined(__GNUC__)
    float x = (float)sum * factor;
    int32_t n;
    __asm__("vcvtr.s32.f32 %0, %0" : "+t"(x)); /* to the nearest, halves to even, saturated */
    memcpy(&n, &x, sizeof n);
#if defined(__ARM_FEATURE_DSP) && defined(__ARM_FEATURE_SAT)
    __asm__("qadd %0, %0, %1\n\tusat %0, #8, %0" : "+r"(n) : "r"(grid->zero_point) : "cc");
    if ((grid->low | (255 - grid->high)) == 0) return n;
    n = n < grid->low ? grid->low : n;
    return n > grid->high ? grid->high : n;
#else
    n = n < -0x8000 ? -0x8000 : n > 0x7FFF ? 0x7FFF : n;
    return edgeline_clamped(n, grid);
#endif
#else
    int32_t n;
    const edgeline_factors x = edgeline_times(edgeline_sums_all(sum), edgeline_factors_all(factor));
    uint8_t byte;
    edgeline_bytes_store(&byte, edgeline_onto(x, grid), 1);
    n = byte;
    return n;
#endif
}

#endif
