/* MaxPool, AveragePool and GlobalAveragePool, with the activations behind it: float, channels beside each other.
 *
 * x  [height, width, channels] by `in_row` and `in_column`, without padding: windows are cut at the border
 * y  [rows, columns, channels] by `out_row` and `out_column`
 *
 * needs: vector activation_f32 */

typedef struct {
    int channels, height, width, rows, columns;
    int kernel_rows, kernel_columns, stride_rows, stride_columns, dilation_rows, dilation_columns;
    int pad_top, pad_left, pad_bottom, pad_right;
    int average, count_include_pad;
    ptrdiff_t in_row, in_column, out_row, out_column;
    edgeline_activation activations[EDGELINE_MAX_ACTIVATIONS];
} edgeline_pool;

EDGELINE_INLINE float edgeline_activate_one(float x, const edgeline_activation *activations)
{
    float lanes[EDGELINE_LANES];
    edgeline_store(lanes, edgeline_activate_all(edgeline_all(x), activations));
    return lanes[0];
}

EDGELINE_INLINE void edgeline_pool_f32(const edgeline_pool *layer, const float *x, float *y)
{
    for (int row = 0; row < layer->rows; row++)
        for (int column = 0; column < layer->columns; column++) {
            const int top = row * layer->stride_rows - layer->pad_top;
            const int left = column * layer->stride_columns - layer->pad_left;
            float *to = y + row * layer->out_row + column * layer->out_column;
            int inside = 0, counted = 0; /* numbers of the window in the input, and in the padded input */
            for (int i = 0; i < layer->kernel_rows; i++)
                for (int j = 0; j < layer->kernel_columns; j++) {
                    const int r = top + i * layer->dilation_rows, c = left + j * layer->dilation_columns;
                    counted += r < layer->height + layer->pad_bottom && c < layer->width + layer->pad_right;
                    if (r < 0 || r >= layer->height || c < 0 || c >= layer->width) continue;
                    const float *from = x + r * layer->in_row + c * layer->in_column;
                    if (inside == 0)
                        for (int k = 0; k < layer->channels; k++) to[k] = from[k];
                    else if (layer->average)
                        for (int k = 0; k < layer->channels; k++) to[k] += from[k];
                    else
                        for (int k = 0; k < layer->channels; k++) to[k] = from[k] > to[k] ? from[k] : to[k];
                    inside++;
                }
            const float share = layer->average ? 1.0f / (float)(layer->count_include_pad ? counted : inside) : 1.0f;
            int k = 0;
            for (; k + EDGELINE_LANES <= layer->channels; k += EDGELINE_LANES) {
                const edgeline_vf pooled = edgeline_load(to + k) * edgeline_all(share);
                edgeline_store(to + k, edgeline_activate_all(pooled, layer->activations));
            }
            for (; k < layer->channels; k++) to[k] = edgeline_activate_one(to[k] * share, layer->activations);
        }
}
