/* MatMul of any two operands, with the activations behind it: float, any layouts by strides.
 *
 * For what gemm_f32.c does not take: a second operand that is computed, or more than one matrix of it.
 *
 * a  [batches][m, k], b  [batches][k, n], y  [batches][m, n]; a stride of 0 repeats a matrix: broadcasting
 *
 * needs: vector activation_f32 lanes_f32 */

typedef struct {
    int batches[EDGELINE_DIMENSIONS]; /* the first two are 1 */
    ptrdiff_t y_batch[EDGELINE_DIMENSIONS], a_batch[EDGELINE_DIMENSIONS], b_batch[EDGELINE_DIMENSIONS];
    int m, n, k;
    ptrdiff_t a_row, a_column, b_row, b_column, y_row, y_column;
    ptrdiff_t a_sample, b_sample, y_sample;
    edgeline_activation activations[EDGELINE_MAX_ACTIVATIONS];
} edgeline_matmul;

EDGELINE_INLINE void edgeline_matmul_one(const edgeline_matmul *layer, const float *a, const float *b, float *y)
{
    for (int i = 0; i < layer->m; i++)
        for (int j = 0; j < layer->n; j += EDGELINE_LANES) {
            edgeline_vf sum = edgeline_all(0.0f);
            for (int k = 0; k < layer->k; k++)
                sum += edgeline_all(a[i * layer->a_row + k * layer->a_column]) *
                       edgeline_gather(b + k * layer->b_row + j * layer->b_column, layer->b_column, layer->n - j);
            edgeline_scatter(y + i * layer->y_row + j * layer->y_column, layer->y_column,
                             edgeline_activate_all(sum, layer->activations), layer->n - j);
        }
}

EDGELINE_INLINE void edgeline_matmul_f32(const edgeline_matmul *layer, const float *a, const float *b, float *y,
                                       size_t rows)
{
    const int *n = layer->batches;
    const ptrdiff_t *r = layer->a_batch, *s = layer->b_batch, *t = layer->y_batch;
    for (ptrdiff_t row = 0; row < (ptrdiff_t)rows; row++)
        for (int c = 0; c < n[2]; c++)
            for (int d = 0; d < n[3]; d++)
                for (int e = 0; e < n[4]; e++)
                    for (int f = 0; f < n[5]; f++)
                        edgeline_matmul_one(
                            layer, a + row * layer->a_sample + c * r[2] + d * r[3] + e * r[4] + f * r[5],
                            b + row * layer->b_sample + c * s[2] + d * s[3] + e * s[4] + f * s[5],
                            y + row * layer->y_sample + c * t[2] + d * t[3] + e * t[4] + f * t[5]);
}
