/* The sums of a window, or of one row, become bytes: with the bias, on the grid, by the table, pooled. One function for
 * all layers on a microcontroller; with Helium four channels at a time.
 *
 * sums [count][stride], f and b [channels], y [channels]; `count` is 1 without pooling
 *
 * needs: finish_u8 rounded_u8 taps_u8s8 */

#if defined(__ARM_FEATURE_MVE) && (__ARM_FEATURE_MVE & 2) && !defined(EDGELINE_PLAIN_C)
#include <arm_mve.h>

EDGELINE_INLINE int32x4_t edgeline_rounded_four(int32x4_t sum, float32x4_t factor, const edgeline_grid *grid)
{
    /* vcvtn: to the nearest, halves to even, saturated. */
    const int32x4_t n = vqaddq_n_s32(vcvtnq_s32_f32(vmulq_f32(vcvtq_f32_s32(sum), factor)), grid->zero_point);
    return vminq_s32(vmaxq_s32(n, vdupq_n_s32(grid->low)), vdupq_n_s32(grid->high));
}

static EDGELINE_SHARED void edgeline_finish_sums(const edgeline_finish *finish, const int32_t *sums, int count,
                                                 int stride, int channels, const float *f, const int32_t *b,
                                                 const uint8_t *table, uint8_t *y)
{
    const int average = finish->pool == EDGELINE_POOL_AVERAGE, inner = average ? count : 1;
    for (int c = 0; c < channels; c += 4, sums += 4, f += 4, b += 4, y += 4) {
        const mve_pred16_t few = vctp32q((uint32_t)(channels - c));
        const int32x4_t bias = vldrwq_z_s32(b, few);
        const float32x4_t factor = vldrwq_z_f32(f, few);
        const int32_t *sum = sums;
        int32x4_t total = vdupq_n_s32(-count * finish->inner_zero), n = total;
        for (int i = 0; i < inner; i++, sum += stride) {
            n = vldrwq_s32(sum);
            for (int p = 1; !average && p < count; p++) n = vmaxq_s32(n, vldrwq_s32(sum + p * stride));
            n = edgeline_rounded_four(vaddq_s32(n, bias), factor, &finish->grid);
            if (table != NULL)
                n = vreinterpretq_s32_u32(vldrbq_gather_offset_u32(table, vreinterpretq_u32_s32(n)));
            total = vaddq_s32(total, n);
        }
        if (average) n = edgeline_rounded_four(total, vdupq_n_f32(finish->pool_factor), &finish->pool_grid);
        vstrbq_p_s32((int8_t *)y, n, few);
    }
}

#else

static EDGELINE_SHARED void edgeline_finish_sums(const edgeline_finish *finish, const int32_t *sums, int count,
                                                 int stride, int channels, const float *f, const int32_t *b,
                                                 const uint8_t *table, uint8_t *y)
{
    const edgeline_grid grid = finish->grid;
    for (const int32_t *end = sums + channels; sums < end; sums++, f++, b++, y++) {
        const int32_t *sum = sums;
        int32_t n = *sum;
        if (finish->pool != EDGELINE_POOL_AVERAGE) {
            for (int p = count; p > 1; p--) {
                sum += stride;
                n = *sum > n ? *sum : n;
            }
            n = edgeline_rounded(n + *b, *f, &grid);
            if (table != NULL) n = table[n];
        } else {
            int32_t total = -count * finish->inner_zero;
            for (int p = count; p > 0; p--, sum += stride) {
                n = edgeline_rounded(*sum + *b, *f, &grid);
                total += table != NULL ? table[n] : n;
            }
            n = edgeline_rounded(total, finish->pool_factor, &finish->pool_grid);
        }
        *y = (uint8_t)n;
    }
}

#endif

/* The same for sums that leave as floats. */
EDGELINE_INLINE void edgeline_finish_floats(const int32_t *sums, int channels, const float *f, const int32_t *b,
                                            float *y)
{
    for (int c = 0; c < channels; c++) y[c] = edgeline_settled((float)(sums[c] + b[c]) * f[c]);
}
