/* conv2d_planar_u8 for layers with 2 x 2 maxima behind them, by smmla: 2 pixels x 2 channels x 8 taps an instruction.
 *
 * A window's two pixels of a row lie in one vector: the 8 numbers from the one on, then those from the other on. Half
 * the products of a kernel row of 5 meet weights of 0, and it is still fewer instructions than sdot's. The weights of
 * all kernel rows stay in registers.
 *
 * needs: dot_u8s8 finish_u8 */

#if defined(__ARM_FEATURE_MATMUL_INT8) && EDGELINE_SUMS == 4 && EDGELINE_FOURS == 4
#define EDGELINE_PLANAR_I8MM 1

enum { EDGELINE_I8MM_ROWS = 8, EDGELINE_I8MM_PAIRS = 4 };

/* Weights of two channels: their 8 taps of a kernel row, behind each other. */
EDGELINE_INLINE int8x16_t edgeline_i8mm_weights(const int8_t *w, int channels)
{
    const int32x2_t first = vreinterpret_s32_s8(vld1_s8(w)), second = vreinterpret_s32_s8(vld1_s8(w + 4 * channels));
    return vreinterpretq_s8_s32(vcombine_s32(vzip1_s32(first, second), vzip2_s32(first, second)));
}

/* Whether the layer has this form: `fours` of a kernel row, everything without strides. */
EDGELINE_INLINE int edgeline_conv2d_planar_i8mm_fits(const edgeline_finish *finish, int channels, int kernel_rows,
                                                     int fours)
{
    return finish->pool == EDGELINE_POOL_MAX && finish->pool_rows == 2 && finish->pool_columns == 2 && fours == 2 &&
           channels % 2 == 0 && channels <= 2 * EDGELINE_I8MM_PAIRS && kernel_rows <= EDGELINE_I8MM_ROWS;
}

EDGELINE_INLINE void edgeline_conv2d_planar_i8mm(const edgeline_finish *finish, const int rows, const int columns,
                                                 const int channels, const int kernel_rows, ptrdiff_t x_row,
                                                 const uint8_t *x, const int8_t *w, const float *f, const int32_t *b,
                                                 const uint8_t *table, uint8_t *y, ptrdiff_t out_row,
                                                 ptrdiff_t out_column)
{
    const uint8x16_t pixels = {0, 1, 2, 3, 4, 5, 6, 7, 1, 2, 3, 4, 5, 6, 7, 8};
    int8x16_t weights[EDGELINE_I8MM_ROWS][EDGELINE_I8MM_PAIRS];
    int32x4_t bias[EDGELINE_I8MM_PAIRS];
    EDGELINE_UNROLL
    for (int n = 0; n < channels / 2; n++) {
        bias[n] = vcombine_s32(vld1_s32(b + 2 * n), vld1_s32(b + 2 * n));
        EDGELINE_UNROLL
        for (int i = 0; i < kernel_rows; i++)
            weights[i][n] = edgeline_i8mm_weights(w + (2 * i * channels + 2 * n) * 4, channels);
    }
    for (int row = 0; row < rows; row++)
        for (int column = 0; column < columns; column++) {
            const uint8_t *from = x + 2 * row * x_row + 2 * column;
            int32x4_t sums[2][EDGELINE_I8MM_PAIRS];
            EDGELINE_UNROLL
            for (int n = 0; n < channels / 2; n++) sums[0][n] = sums[1][n] = bias[n];
            EDGELINE_UNROLL
            for (int i = 0; i < kernel_rows + 1; i++) {
                const edgeline_x4 numbers = edgeline_x4_flipped(edgeline_x4_load(from + i * x_row));
                const int8x16_t two =
                    vreinterpretq_s8_u8(vqtbl1q_u8(vreinterpretq_u8_s32(numbers), pixels));
                EDGELINE_UNROLL
                for (int n = 0; n < channels / 2; n++) {
                    if (i < kernel_rows) sums[0][n] = vmmlaq_s32(sums[0][n], two, weights[i][n]);
                    if (i > 0) sums[1][n] = vmmlaq_s32(sums[1][n], two, weights[i - 1][n]);
                }
            }
            EDGELINE_UNROLL
            for (int n = 0; n < channels / 2; n += 2) {
                /* A pixel's two channels lie beside each other, the other pixel's behind them. */
                const int64x2_t first = vreinterpretq_s64_s32(vmaxq_s32(sums[0][n], sums[1][n]));
                const int last = n + 1 < channels / 2 ? n + 1 : n;
                const int64x2_t second = vreinterpretq_s64_s32(vmaxq_s32(sums[0][last], sums[1][last]));
                const edgeline_sums most = vmaxq_s32(vreinterpretq_s32_s64(vzip1q_s64(first, second)),
                                                     vreinterpretq_s32_s64(vzip2q_s64(first, second)));
                const edgeline_factors factors = edgeline_floats_load_first(f + 2 * n, channels - 2 * n);
                edgeline_bytes_store(y + row * out_row + column * out_column + 2 * n,
                                     edgeline_finished(finish, table, factors, &most, 1), channels - 2 * n);
            }
        }
}

#endif
