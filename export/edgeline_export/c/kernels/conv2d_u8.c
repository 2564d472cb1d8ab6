/* QLinearConv, with the table and the pooling behind it: bytes, output channels in the lanes.
 *
 * A tile of pixels times channels stays in registers while all taps are added up, four numbers of the input at a time.
 * What lies beside each other in the input is one run: the channels of a pixel, or those of all columns of the window.
 * A run's end is filled up with weights of 0, so up to three bytes behind the input are read.
 *
 * x  [height, width, channels] by the strides, at the first tap of the first pixel; its padding is in memory
 * w  [groups][out_channels / BLOCK][kernel_rows][kernel_runs][fours][BLOCK][4]
 * f  [groups][out_channels] factors, b [groups][out_channels], out_channels a multiple of BLOCK
 * y  [rows, columns, channels] by `out_row` and `out_column`, channels beside each other; bytes, or the sums as floats
 *
 * needs: dot_u8s8 finish_u8 */

enum { EDGELINE_DOT_PIXELS = 28 };

typedef struct {
    int channels, out_channels, rows, columns; /* of a group's output, behind the pooling */
    int groups;
    ptrdiff_t in_group;
    int kernel_rows, kernel_runs, fours; /* fours: of a run */
    ptrdiff_t kernel_row, kernel_run;
    ptrdiff_t in_row, in_column; /* from one pixel's window to the next one's, in the convolution before the pooling */
    ptrdiff_t out_row, out_column;
    int blocks; /* of channels in a tile, at most */
    int floats;
    edgeline_finish finish;
} edgeline_conv2d_u8_layer;

/* `fours` fours that lie beside each other, one or EDGELINE_FOURS, added to the sums of a tile. */
EDGELINE_INLINE void edgeline_conv2d_u8_fours(const edgeline_conv2d_u8_layer *layer, const uint8_t *from,
                                              const int8_t *w, ptrdiff_t block, const int fours, const int windows,
                                              const int vectors,
                                              edgeline_dots sums[EDGELINE_DOT_VECTORS][EDGELINE_DOT_PIXELS])
{
    const int columns = layer->finish.pool_columns, count = layer->finish.pool_rows * columns;
    if (fours == 1) {
        edgeline_w4 weights[EDGELINE_DOT_VECTORS];
        EDGELINE_UNROLL
        for (int v = 0; v < vectors; v++) {
            const int lane = v * EDGELINE_SUMS;
            weights[v] = edgeline_w4_load(w + lane / EDGELINE_DOT_BLOCK * block + lane % EDGELINE_DOT_BLOCK * 4);
        }
        EDGELINE_UNROLL
        for (int p = 0; p < windows * count; p++) {
            const ptrdiff_t row = p % count / columns, column = p / count * columns + p % columns;
            const ptrdiff_t at = row * layer->in_row + column * layer->in_column;
            const edgeline_fours_x four = edgeline_fours_of_x(from + at, 1);
            EDGELINE_UNROLL
            for (int v = 0; v < vectors; v++) sums[v][p] = edgeline_dot4_by_x(sums[v][p], four, -1, weights[v]);
        }
        return;
    }
    edgeline_fours_x x[EDGELINE_DOT_PIXELS];
    EDGELINE_UNROLL
    for (int p = 0; p < windows * count; p++) {
        const ptrdiff_t row = p % count / columns, column = p / count * columns + p % columns;
        x[p] = edgeline_fours_of_x(from + row * layer->in_row + column * layer->in_column, fours);
    }
    EDGELINE_UNROLL
    for (int k = 0; k < fours; k++) {
        EDGELINE_UNROLL
        for (int v = 0; v < vectors; v++) {
            const int lane = v * EDGELINE_SUMS;
            const edgeline_w4 weights = edgeline_w4_load(
                w + k * EDGELINE_DOT_BLOCK * 4 + lane / EDGELINE_DOT_BLOCK * block + lane % EDGELINE_DOT_BLOCK * 4);
            EDGELINE_UNROLL
            for (int p = 0; p < windows * count; p++)
                sums[v][p] = edgeline_dot4_by_x(sums[v][p], x[p], k, weights);
        }
    }
}

EDGELINE_INLINE void edgeline_conv2d_u8_tile(const edgeline_conv2d_u8_layer *layer, const uint8_t *x, const int8_t *w,
                                             const float *f, const int32_t *b, const uint8_t *table, void *y,
                                             ptrdiff_t at, ptrdiff_t block, int channels, const int windows,
                                             const int vectors)
{
    const edgeline_finish *finish = &layer->finish;
    const int columns = finish->pool_columns, count = finish->pool_rows * columns;
    edgeline_dots sums[EDGELINE_DOT_VECTORS][EDGELINE_DOT_PIXELS];
    EDGELINE_UNROLL
    for (int v = 0; v < vectors; v++) {
        const edgeline_dots bias = edgeline_dots_from(edgeline_sums_load(b + v * EDGELINE_SUMS));
        EDGELINE_UNROLL
        for (int i = 0; i < windows * count; i++) sums[v][i] = bias;
    }
    for (int i = 0; i < layer->kernel_rows; i++)
        for (int j = 0; j < layer->kernel_runs; j++) {
            const uint8_t *from = x + i * layer->kernel_row + j * layer->kernel_run;
            int k = 0;
            for (; EDGELINE_FOURS > 1 && k + EDGELINE_FOURS <= layer->fours; k += EDGELINE_FOURS) {
                edgeline_conv2d_u8_fours(layer, from, w, block, EDGELINE_FOURS, windows, vectors, sums);
                from += EDGELINE_FOURS * 4;
                w += EDGELINE_FOURS * EDGELINE_DOT_BLOCK * 4;
            }
            for (; k < layer->fours; k++) {
                edgeline_conv2d_u8_fours(layer, from, w, block, 1, windows, vectors, sums);
                from += 4;
                w += EDGELINE_DOT_BLOCK * 4;
            }
        }
    EDGELINE_UNROLL
    for (int v = 0; v < vectors; v++) {
        const edgeline_factors factors = edgeline_factors_load(f + v * EDGELINE_SUMS);
        EDGELINE_UNROLL
        for (int p = 0; p < windows; p++) {
            const ptrdiff_t to = at + p * layer->out_column + v * EDGELINE_SUMS;
            const int left = channels - v * EDGELINE_SUMS;
            edgeline_sums window[EDGELINE_DOT_PIXELS];
            EDGELINE_UNROLL
            for (int i = 0; i < count; i++) window[i] = edgeline_dots_sums(sums[v][p * count + i]);
            if (layer->floats)
                edgeline_floats_store((float *)y + to, edgeline_settled(edgeline_times(window[0], factors)), left);
            else
                edgeline_bytes_store((uint8_t *)y + to, edgeline_finished(finish, table, factors, window, count), left);
        }
    }
}

/* A row of tiles; the last one begins early enough to end with the row, and computes some pixels again. */
EDGELINE_INLINE void edgeline_conv2d_u8_row(const edgeline_conv2d_u8_layer *layer, const uint8_t *x, const int8_t *w,
                                            const float *f, const int32_t *b, const uint8_t *table, void *y,
                                            ptrdiff_t to, ptrdiff_t block, int channels, const int vectors)
{
    const int window = layer->finish.pool_rows * layer->finish.pool_columns;
    const int free = EDGELINE_DOT_ROOM - (vectors + 1) * EDGELINE_OPERAND - (EDGELINE_OPERAND - 1);
    const int room = free / (vectors * window), limit = EDGELINE_DOT_PIXELS / window;
    const int most = room < 1 ? 1 : room < limit ? room : limit, tiles = (layer->columns + most - 1) / most;
    const int windows = (layer->columns + tiles - 1) / tiles;
    for (int t = 0; t < tiles; t++) {
        const int at = t * windows < layer->columns - windows ? t * windows : layer->columns - windows;
        edgeline_conv2d_u8_tile(layer, x + at * layer->finish.pool_columns * layer->in_column, w, f, b, table, y,
                                to + at * layer->out_column, block, channels, windows, vectors);
    }
}

/* Computes the part `part` of `parts` of the layer: each has its own groups, blocks of channels and rows. */
EDGELINE_INLINE void edgeline_conv2d_u8(const edgeline_conv2d_u8_layer *layer, const uint8_t *x, const int8_t *w,
                                        const float *f, const int32_t *b, const uint8_t *table, void *y, int part,
                                        int parts)
{
#if EDGELINE_FOURS > 1 /* pointers that gcc does not see through: else it reads each vector at an address of its own */
    EDGELINE_READ_HERE(f);
    EDGELINE_READ_HERE(b);
    EDGELINE_READ_HERE(table);
#endif
    const ptrdiff_t block = (ptrdiff_t)layer->kernel_rows * layer->kernel_runs * layer->fours * EDGELINE_DOT_BLOCK * 4;
    const int wide = EDGELINE_DOT_VECTORS * EDGELINE_SUMS < layer->blocks * EDGELINE_DOT_BLOCK
                         ? EDGELINE_DOT_VECTORS * EDGELINE_SUMS
                         : layer->blocks * EDGELINE_DOT_BLOCK;
    const int full = layer->channels / wide, rest = layer->channels % wide, tiles = full + (rest > 0);
    const int units = layer->groups * tiles * layer->rows;
    for (int unit = units * part / parts; unit < units * (part + 1) / parts; unit++) {
        const int group = unit / (tiles * layer->rows), row = unit % layer->rows;
        const int tile = unit / layer->rows % tiles, channel = tile * wide;
        const int packed = group * layer->out_channels + channel;
        const uint8_t *from = x + group * layer->in_group + row * layer->finish.pool_rows * layer->in_row;
        const int8_t *weights = w + group * (layer->out_channels / EDGELINE_DOT_BLOCK) * block +
                                channel / EDGELINE_DOT_BLOCK * block + channel % EDGELINE_DOT_BLOCK * 4;
        const ptrdiff_t to = row * layer->out_row + group * layer->channels + channel;
        if (tile < full)
            edgeline_conv2d_u8_row(layer, from, weights, f + packed, b + packed, table, y, to, block, wide,
                                   wide / EDGELINE_SUMS);
        else
            edgeline_conv2d_u8_row(layer, from, weights, f + packed, b + packed, table, y, to, block, rest,
                                   (rest + EDGELINE_SUMS - 1) / EDGELINE_SUMS);
    }
}
