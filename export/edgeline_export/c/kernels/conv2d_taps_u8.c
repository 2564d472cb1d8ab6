/* QLinearConv for microcontrollers, with the table and the pooling behind it: one function for all layers of a network.
 *
 * Two pixels at a time: those of a pooling's window, or neighbours of a row. Their taps are gathered once and multiplied
 * by all channels. In a window of two columns the pixels of the next row have all rows of taps but the first in common
 * with those above: they are gathered together, and lie `shared` taps further on. When a window is complete its sums
 * are brought onto the grid and pooled.
 *
 * x  [height, width, channels] by the strides, at the first tap of the first pixel; its padding is in memory
 * w  [groups][(channels + 1) / 2] tiles of `size` weights, as taps_u8s8.c has them; f, b [groups][channels]
 * y  [rows, columns, channels] by `out_row` and `out_column`, channels beside each other; bytes, or the sums as floats
 * scratch: `sums` int32 of the window's pixels, [pixels][channels, even], and behind them the taps of two pixels
 *
 * needs: finish_taps_u8 */

typedef struct {
    int channels, rows, columns; /* of a group's output, behind the pooling */
    int groups;
    ptrdiff_t in_group;
    edgeline_taps taps;
    int size, sums; /* of a tile's weights; of the scratch, in int32 */
    int shared;     /* 0: the pixels of a window are gathered pair by pair */
    ptrdiff_t in_row, in_column; /* from one pixel's window to the next one's, in the convolution before the pooling */
    ptrdiff_t out_row, out_column;
    int floats;
    edgeline_finish finish;
} edgeline_conv2d_taps_layer;

/* The sums of two pixels and all channels, [2][stride]. */
static EDGELINE_SHARED void edgeline_multiply(const edgeline_taps *taps, const edgeline_tap *x,
                                              const edgeline_weight *w, int size, int32_t *sums, int stride)
{
    for (const int32_t *end = sums + stride; sums < end; sums += 2, w += size)
        edgeline_tile_2x2(taps, x, w, sums, sums + stride);
}

static EDGELINE_SHARED void edgeline_conv2d_taps_u8(const edgeline_conv2d_taps_layer *layer, const uint8_t *x,
                                                    const edgeline_weight *w, const float *f, const int32_t *b,
                                                    const uint8_t *table, void *y, void *scratch)
{
    const edgeline_finish *finish = &layer->finish;
    const edgeline_taps *taps = &layer->taps;
    const int rows = taps->rows + (layer->shared > 0 ? finish->pool_rows - 1 : 0);
    const int window = finish->pool_rows * finish->pool_columns, across = window > 1 ? finish->pool_columns : 2;
    const int stride = (layer->channels + 1) & ~1, step = window > 1 ? 1 : 2;
    int32_t *sums = (int32_t *)scratch;
    edgeline_tap *buffer = (edgeline_tap *)(void *)(sums + layer->sums);
    for (int group = 0; group < layer->groups; group++, x += layer->in_group) {
        for (int row = 0; row < layer->rows; row++)
            for (int column = 0; column < layer->columns; column += step) {
                const uint8_t *from =
                    x + row * finish->pool_rows * layer->in_row + column * finish->pool_columns * layer->in_column;
                ptrdiff_t to = row * layer->out_row + column * layer->out_column + group * layer->channels;
                /* Neighbours without pooling are computed like a window of two, or of one at the end of a row. */
                const int pixels = window > 1 ? window : layer->columns - column < 2 ? 1 : 2;
                int place = 0;
                int32_t *sum = sums;
                for (int p = 0; p < pixels; p += 2, sum += 2 * stride) {
                    if (p == 0 || layer->shared == 0) {
                        const uint8_t *pair[2];
                        for (int k = 0; k < 2; k++) {
                            pair[k] = from;
                            from += layer->in_column;
                            if (++place == across) place = 0, from += layer->in_row - across * layer->in_column;
                        }
                        edgeline_gather(taps, rows, pair[0], p + 1 < pixels ? pair[1] - pair[0] : 0, buffer);
                    }
                    edgeline_multiply(taps, buffer + p / 2 * layer->shared, w, layer->size, sum, stride);
                }
                for (int p = 0; p < pixels; p += window, to += layer->out_column) {
                    const int32_t *made = sums + p * stride;
                    if (layer->floats)
                        edgeline_finish_floats(made, layer->channels, f, b, (float *)y + to);
                    else
                        edgeline_finish_sums(finish, made, window, stride, layer->channels, f, b, table,
                                             (uint8_t *)y + to);
                }
            }
        w += stride / 2 * layer->size;
        f += layer->channels;
        b += layer->channels;
    }
}
