/* QLinearConv for microcontrollers, with the table and the pooling behind it: one function for all layers of a network.
 *
 * Two pixels at a time: those of a pooling's window, or neighbours of a row. Their taps are gathered once and multiplied
 * by all channels; of a window, `kept` holds what its pixels so far came to.
 *
 * x  [height, width, channels] by the strides, at the first tap of the first pixel; its padding is in memory
 * w  [groups][(channels + 1) / 2] tiles of `size` weights, as taps_u8s8.c has them; f, b [groups][channels]
 * y  [rows, columns, channels] by `out_row` and `out_column`, channels beside each other; bytes, or the sums as floats
 * buffer: the taps of two pixels, and behind them one int32 a channel
 *
 * needs: finish_u8 rounded_u8 taps_u8s8 */

typedef struct {
    int channels, rows, columns; /* of a group's output, behind the pooling */
    int groups;
    ptrdiff_t in_group;
    edgeline_taps taps;
    int size, kept; /* of a tile's weights; where behind the taps `kept` begins */
    ptrdiff_t in_row, in_column; /* from one pixel's window to the next one's, in the convolution before the pooling */
    ptrdiff_t out_row, out_column;
    int floats;
    edgeline_finish finish;
} edgeline_conv2d_taps_layer;

/* One channel of two pixels, which are pixel `p` of a window and the next one: to `to`, and behind it for no pooling. */
EDGELINE_INLINE void edgeline_conv2d_taps_channel(const edgeline_conv2d_taps_layer *layer, int32_t first,
                                                  int32_t second, float factor, const uint8_t *table, void *y,
                                                  ptrdiff_t to, int32_t *kept, int p, int pixels)
{
    const edgeline_finish *finish = &layer->finish;
    int32_t total = -pixels * finish->inner_zero;
    int values = 2;
    if (p > 0) total = *kept;
    if (finish->pool == EDGELINE_POOL_MAX) {
        if (second > first) first = second;
        if (p > 0 && total > first) first = total;
        *kept = first;
        if (p + 2 < pixels) return;
        values = 1;
    } else if (p + 1 == pixels) {
        values = 1;
    }
    for (int v = 0; v < values; v++, first = second) {
        if (layer->floats) {
            ((float *)y)[to + v * layer->out_column] = edgeline_settled((float)first * factor);
            continue;
        }
        int32_t n = edgeline_rounded(first, factor, &finish->grid);
        if (table != NULL) n = table[n];
        total += n;
        if (finish->pool != EDGELINE_POOL_AVERAGE) ((uint8_t *)y)[to + v * layer->out_column] = (uint8_t)n;
    }
    if (finish->pool != EDGELINE_POOL_AVERAGE) return;
    *kept = total;
    if (p + 2 >= pixels)
        ((uint8_t *)y)[to] = (uint8_t)edgeline_rounded(total, finish->pool_factor, &finish->pool_grid);
}

static EDGELINE_SHARED void edgeline_conv2d_taps_u8(const edgeline_conv2d_taps_layer *layer, const uint8_t *x,
                                                    const edgeline_weight *w, const float *f, const int32_t *b,
                                                    const uint8_t *table, void *y, edgeline_tap *buffer)
{
    const edgeline_finish *finish = &layer->finish;
    const edgeline_taps *taps = &layer->taps;
    const int window = finish->pool_rows * finish->pool_columns, across = window > 1 ? 1 : 2;
    int32_t *kept = (int32_t *)(void *)(buffer + layer->kept);
    for (int group = 0; group < layer->groups; group++, x += layer->in_group) {
        for (int row = 0; row < layer->rows; row++)
            for (int column = 0; column < layer->columns; column += across) {
                const uint8_t *from =
                    x + row * finish->pool_rows * layer->in_row + column * finish->pool_columns * layer->in_column;
                const ptrdiff_t to = row * layer->out_row + column * layer->out_column + group * layer->channels;
                /* Neighbours without pooling are a window of two, or of one at the end of the row. */
                const int pixels = window > 1 ? window : layer->columns - column < 2 ? 1 : 2;
                int place = 0;
                for (int p = 0; p < pixels; p += 2) {
                    for (int pixel = 0; pixel < 2; pixel++) {
                        edgeline_gather(taps, from, buffer + pixel * EDGELINE_SECOND_PIXEL(taps),
                                        EDGELINE_PIXEL_STRIDE);
                        if (p + pixel + 1 >= pixels) continue; /* the last pixel of an odd window goes twice */
                        from += layer->in_column;
                        if (window > 1 && ++place == finish->pool_columns)
                            place = 0, from += layer->in_row - finish->pool_columns * layer->in_column;
                    }
                    const edgeline_weight *weights = w;
                    for (int c = 0; c < layer->channels; c += 2, weights += layer->size) {
                        int32_t sums[4];
                        edgeline_tile_2x2(buffer, weights, taps->steps, sums);
                        for (int k = 0; k < 2 && c + k < layer->channels; k++)
                            edgeline_conv2d_taps_channel(layer, sums[k] + b[c + k], sums[2 + k] + b[c + k], f[c + k],
                                                         table, y, to + c + k, kept + c + k, p, pixels);
                    }
                }
            }
        w += (layer->channels + 1) / 2 * layer->size;
        f += layer->channels;
        b += layer->channels;
    }
}
