/* Conv in which each output channel comes from the input channel at its place, with the activations behind it: float,
 * channels in the lanes.
 *
 * x  [height, width, channels] by the strides below, at the first tap of the first pixel, channels beside each other;
 *    the padding is in memory
 * w  [channels / BLOCK][kernel_rows][kernel_columns][BLOCK], b [channels], both filled up to whole blocks
 * y  [rows, columns, channels] by `out_row` and `out_column`
 *
 * needs: vector activation_f32 lanes_f32 */

enum { EDGELINE_DEPTHWISE_PIXELS = 8 };

typedef struct {
    int channels, rows, columns, kernel_rows, kernel_columns;
    ptrdiff_t tap_row, tap_column; /* from one tap to the next: dilations */
    ptrdiff_t in_row, in_column, out_row, out_column;
    edgeline_activation activations[EDGELINE_MAX_ACTIVATIONS];
} edgeline_depthwise;

EDGELINE_INLINE void edgeline_depthwise_tile(const edgeline_depthwise *layer, const float *x, const float *w,
                                             const float *b, float *y, const int channels, const int pixels)
{
    edgeline_vf sums[EDGELINE_DEPTHWISE_PIXELS];
    const edgeline_vf bias = edgeline_load(b);
    EDGELINE_UNROLL
    for (int p = 0; p < pixels; p++) sums[p] = bias;
    for (int i = 0; i < layer->kernel_rows; i++)
        for (int j = 0; j < layer->kernel_columns; j++) {
            const float *from = x + i * layer->tap_row + j * layer->tap_column;
            const edgeline_vf weight = edgeline_load(w + (i * layer->kernel_columns + j) * EDGELINE_BLOCK);
            EDGELINE_UNROLL
            for (int p = 0; p < pixels; p++)
                sums[p] += weight * edgeline_gather(from + p * layer->in_column, 1, channels);
        }
    EDGELINE_UNROLL
    for (int p = 0; p < pixels; p++)
        edgeline_scatter(y + p * layer->out_column, 1, edgeline_activate_all(sums[p], layer->activations), channels);
}

/* The lanes from `channel` on of one row; the last tile begins early enough to end with the row. */
EDGELINE_INLINE void edgeline_depthwise_row(const edgeline_depthwise *layer, const float *x, const float *w,
                                            const float *b, float *y, int channel, const int channels)
{
    const int most = EDGELINE_DEPTHWISE_PIXELS, tiles = (layer->columns + most - 1) / most;
    const int pixels = (layer->columns + tiles - 1) / tiles;
    const ptrdiff_t block = (ptrdiff_t)layer->kernel_rows * layer->kernel_columns * EDGELINE_BLOCK;
    const float *weights = w + channel / EDGELINE_BLOCK * block + channel % EDGELINE_BLOCK;
    for (int t = 0; t < tiles; t++) {
        const int at = t * pixels < layer->columns - pixels ? t * pixels : layer->columns - pixels;
        edgeline_depthwise_tile(layer, x + channel + at * layer->in_column, weights, b + channel,
                                y + channel + at * layer->out_column, channels, pixels);
    }
}

/* Computes the part `part` of `parts` of the layer: each has its own rows. */
EDGELINE_INLINE void edgeline_depthwise_f32(const edgeline_depthwise *layer, const float *x, const float *w,
                                            const float *b, float *y, int part, int parts)
{
    const int whole = layer->channels / EDGELINE_LANES * EDGELINE_LANES;
    for (int row = layer->rows * part / parts; row < layer->rows * (part + 1) / parts; row++) {
        const float *from = x + row * layer->in_row;
        float *to = y + row * layer->out_row;
        for (int c = 0; c < whole; c += EDGELINE_LANES)
            edgeline_depthwise_row(layer, from, w, b, to, c, EDGELINE_LANES);
        if (whole < layer->channels) edgeline_depthwise_row(layer, from, w, b, to, whole, layer->channels - whole);
    }
}
