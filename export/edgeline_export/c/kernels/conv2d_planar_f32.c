/* Conv, with the activations and the pooling behind it: float, pixels of a row in the lanes.
 *
 * For layers with few output channels, which would leave lanes empty. The input is first copied, within its padding,
 * in phases: columns f, f + phases, f + 2 phases ... lie beside each other, where `phases` is the step from one output
 * pixel to the next. What a lane needs for any tap and any place in its pooling window is then beside what its
 * neighbour needs.
 *
 * x  [in_channels, height, width] by `x_channel`, `x_row` and `x_column`
 * copied  [in_channels][padded height][phases][phase_columns], and BLOCK numbers of room: `copied_bytes`
 * w  [in_channels][kernel_rows][kernel_columns][channels], b [channels]
 * y  [channels][rows][columns] by `out_channel` and `out_row`
 *
 * needs: vector activation_f32 conv2d_f32 */

enum { EDGELINE_PLANAR_CHANNELS = 8 };

typedef struct {
    int channels, rows, columns; /* of the output, behind the pooling */
    int in_channels, kernel_rows, kernel_columns;
    int stride_rows, stride_columns, dilation_rows, dilation_columns;
    int height, width, pad_top, pad_left;
    ptrdiff_t x_channel, x_row, x_column;
    int phases;                  /* stride_columns times the pooling's columns */
    ptrdiff_t phase_columns, in_row, in_channel; /* of the copy */
    size_t copied_bytes;
    ptrdiff_t out_row, out_channel;
    edgeline_conv2d pooling;     /* its pool, activations and behind */
} edgeline_conv2d_planar;

EDGELINE_INLINE void edgeline_conv2d_planar_copy(const edgeline_conv2d_planar *layer, const float *x, float *copied)
{
    memset(copied, 0, layer->copied_bytes);
    for (int c = 0; c < layer->in_channels; c++)
        for (int r = 0; r < layer->height; r++) {
            const float *from = x + c * layer->x_channel + r * layer->x_row;
            float *row = copied + c * layer->in_channel + (r + layer->pad_top) * layer->in_row;
            if (layer->phases == 2 && layer->x_column == 1) {
                /* Whole vectors, from the end, with zeros behind the last column: these fall on padding, or on what is
                 * written later. */
                const int odd_pad = layer->pad_left % 2, half = layer->pad_left / 2;
                for (int i = (layer->width - 1) / 2 / EDGELINE_LANES * EDGELINE_LANES; i >= 0; i -= EDGELINE_LANES) {
                    edgeline_vf even, odd;
                    const float *here = from + 2 * i;
                    const int left = layer->width - 2 * i;
                    edgeline_unzip(edgeline_load_first(here, left),
                                   edgeline_load_first(here + EDGELINE_LANES, left - EDGELINE_LANES), &even, &odd);
                    edgeline_store(row + half + odd_pad + i, odd_pad ? odd : even);
                    edgeline_store(row + layer->phase_columns + half + i, odd_pad ? even : odd);
                }
                continue;
            }
            EDGELINE_UNROLL
            for (int f = 0; f < layer->phases; f++) {
                const int before = layer->pad_left - f; /* padding, in columns, before the phase's first number */
                const int first = before > 0 ? (before + layer->phases - 1) / layer->phases : 0;
                const int count = (layer->width + before + layer->phases - 1) / layer->phases;
                for (int i = first; i < count; i++)
                    row[f * layer->phase_columns + i] = from[(i * layer->phases - before) * layer->x_column];
            }
        }
}

EDGELINE_INLINE void edgeline_conv2d_planar_tile(const edgeline_conv2d_planar *layer, const float *x, const float *w,
                                                 const float *b, float *y, int lanes, const int channels)
{
    const edgeline_conv2d *pooling = &layer->pooling;
    const int count = pooling->pool_rows * pooling->pool_columns;
    edgeline_vf sums[EDGELINE_PLANAR_CHANNELS][EDGELINE_TILE_PIXELS];
    EDGELINE_READ_HERE(b);
    EDGELINE_UNROLL
    for (int c = 0; c < channels; c++) {
        EDGELINE_UNROLL
        for (int p = 0; p < count; p++) sums[c][p] = edgeline_all(b[c]);
    }
    for (int i = 0; i < layer->in_channels; i++)
        for (int kr = 0; kr < layer->kernel_rows; kr++) {
            const float *row = x + i * layer->in_channel + kr * layer->dilation_rows * layer->in_row;
            edgeline_vf weights = edgeline_all(0.0f);
            if (EDGELINE_NUMBERS > 1) EDGELINE_READ_HERE(row);
            EDGELINE_UNROLL
            for (int kc = 0; kc < layer->kernel_columns; kc++) {
                edgeline_vf numbers[EDGELINE_TILE_PIXELS];
                EDGELINE_UNROLL
                for (int p = 0; p < count; p++) {
                    const int column = p % pooling->pool_columns * layer->stride_columns + kc * layer->dilation_columns;
                    numbers[p] = edgeline_load(row + p / pooling->pool_columns * layer->stride_rows * layer->in_row +
                                               column % layer->phases * layer->phase_columns + column / layer->phases);
                }
                EDGELINE_UNROLL
                for (int c = 0; c < channels; c++) {
                    /* Where this tile has all channels, those of all columns of the kernel are one run. */
                    const int all = channels == layer->channels;
                    const int run = all ? channels * layer->kernel_columns : channels;
                    const int at = (all ? kc * channels : 0) + c, place = at % EDGELINE_NUMBERS;
                    const int many = EDGELINE_NUMBERS > 1 && at - place + EDGELINE_NUMBERS <= run;
                    if (!many || place == 0)
                        weights = edgeline_numbers(w + kc * layer->channels + c, many ? EDGELINE_NUMBERS : 1);
                    EDGELINE_UNROLL
                    for (int p = 0; p < count; p++)
                        sums[c][p] = edgeline_plus_product(sums[c][p], weights, many ? place : 0, numbers[p]);
                }
            }
            w += layer->channels * layer->kernel_columns;
        }
    if (!edgeline_has_exponential(pooling->activations)) {
        EDGELINE_UNROLL
        for (int c = 0; c < channels; c++)
            edgeline_store_first(y + c * layer->out_channel, edgeline_conv2d_pooled(pooling, sums[c], count), lanes);
        return;
    }
    /* Through memory, in a loop: with all sums still in registers, exponentials find none for their constants. */
    EDGELINE_ALIGNED float stored[EDGELINE_PLANAR_CHANNELS * EDGELINE_TILE_PIXELS * EDGELINE_LANES];
    EDGELINE_UNROLL
    for (int c = 0; c < channels; c++) {
        EDGELINE_UNROLL
        for (int p = 0; p < count; p++) edgeline_store(stored + (c * count + p) * EDGELINE_LANES, sums[c][p]);
    }
    EDGELINE_KEEP_IN_MEMORY(stored);
    EDGELINE_NO_UNROLL
    for (int c = 0; c < channels; c++) {
        edgeline_vf window[EDGELINE_TILE_PIXELS];
        EDGELINE_UNROLL
        for (int p = 0; p < count; p++) window[p] = edgeline_load(stored + (c * count + p) * EDGELINE_LANES);
        edgeline_store_first(y + c * layer->out_channel, edgeline_conv2d_pooled(pooling, window, count), lanes);
    }
}

EDGELINE_INLINE void edgeline_conv2d_planar_f32(const edgeline_conv2d_planar *layer, const float *x, float *copied,
                                                const float *w, const float *b, float *y)
{
    edgeline_conv2d_planar_copy(layer, x, copied);
    const edgeline_conv2d *pooling = &layer->pooling;
    const int count = pooling->pool_rows * pooling->pool_columns;
    const int room = (EDGELINE_REGISTERS - 4) / count;
    const int most = room < 1 ? 1 : room < EDGELINE_PLANAR_CHANNELS ? room : EDGELINE_PLANAR_CHANNELS;
    const int tiles = (layer->channels + most - 1) / most, channels = (layer->channels + tiles - 1) / tiles;
    for (int row = 0; row < layer->rows; row++)
        for (int t = 0; t < tiles; t++) {
            const int channel = t * channels < layer->channels - channels ? t * channels : layer->channels - channels;
            for (int column = 0; column < layer->columns; column += EDGELINE_LANES) {
                /* Without masked stores, the last vector begins early enough to end with the row. */
                const int whole = EDGELINE_NUMBERS > 1 && layer->columns >= EDGELINE_LANES;
                const int at =
                    whole && column > layer->columns - EDGELINE_LANES ? layer->columns - EDGELINE_LANES : column;
                edgeline_conv2d_planar_tile(
                    layer, copied + row * pooling->pool_rows * layer->stride_rows * layer->in_row + at, w + channel,
                    b + channel, y + channel * layer->out_channel + row * layer->out_row + at,
                    whole ? EDGELINE_LANES : layer->columns - column, channels);
            }
        }
}
