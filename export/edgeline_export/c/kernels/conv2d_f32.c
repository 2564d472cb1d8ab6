/* Conv, with the activations and the pooling behind it: float, output channels in the lanes.
 *
 * A tile of pixels times channels stays in registers while all taps are added up; each tap loads one vector of weights
 * per channel block and one number of the input per pixel. The input is read through strides, its padding is in memory.
 *
 * x  [channels, height, width] by the strides of `taps`, `in_row` and `in_column`, at the first tap of the first pixel
 * w  [out_channels / BLOCK][taps 0][taps 1][taps 2][BLOCK], b [out_channels], out_channels a multiple of BLOCK
 * y  [rows, columns, channels] by `out_row` and `out_column`, channels beside each other; those that only fill up a
 *    block are not written
 *
 * needs: vector activation_f32 */

enum { EDGELINE_NO_POOL, EDGELINE_MAX_POOL, EDGELINE_AVERAGE_POOL };
/* Registers for the sums of a tile of so many vectors of channels: the others hold weights and numbers. */
#define EDGELINE_TILE_ROOM(vectors) \
    (EDGELINE_REGISTERS - (EDGELINE_NUMBERS == 1 ? 4 : EDGELINE_NUMBERS * (vectors) + 2))

enum { EDGELINE_TILE_VECTORS = 4, EDGELINE_TILE_PIXELS = 28, EDGELINE_SHARED_NUMBERS = 32 };

typedef struct {
    int count;
    ptrdiff_t stride; /* in numbers of the input */
} edgeline_taps;

typedef struct {
    int channels, out_channels, rows, columns; /* of the output, behind the pooling; out_channels: with whole blocks */
    edgeline_taps taps[3];
    ptrdiff_t in_row, in_column;     /* from one pixel's window to the next one's, before the pooling */
    ptrdiff_t out_row, out_column;
    int pool, pool_rows, pool_columns; /* windows that lie beside each other; 1 and 1 without pooling */
    int blocks;                        /* of channels in a tile, at most */
    edgeline_activation activations[EDGELINE_MAX_ACTIVATIONS]; /* before the pooling */
    edgeline_activation behind[EDGELINE_MAX_ACTIVATIONS];      /* behind it */
} edgeline_conv2d;

/* The pixels of one pooling window become one. */
EDGELINE_INLINE edgeline_vf edgeline_conv2d_pooled(const edgeline_conv2d *layer, const edgeline_vf *window, int count)
{
    const edgeline_activation *before = layer->activations;
    edgeline_vf pooled;
    if (layer->pool == EDGELINE_AVERAGE_POOL && count == 4 && before[0].kind == EDGELINE_SIGMOID &&
        before[1].kind == EDGELINE_IDENTITY) {
        /* Four quotients over one divisor: 1/a + 1/b + 1/c + 1/d. At -20, a sigmoid of 2e-9, the product still fits. */
        edgeline_vf e[4];
        EDGELINE_UNROLL
        for (int i = 0; i < 4; i++)
            e[i] = edgeline_one_plus_exp_minus(edgeline_max(window[i], edgeline_all(-20.0f)));
        const edgeline_vf ab = e[0] * e[1], cd = e[2] * e[3];
        pooled = ((e[0] + e[1]) * cd + (e[2] + e[3]) * ab) / (ab * cd) * edgeline_all(0.25f);
    } else {
        pooled = edgeline_activate_all(window[0], before);
        EDGELINE_UNROLL
        for (int i = 1; i < count; i++) {
            const edgeline_vf next = edgeline_activate_all(window[i], before);
            pooled = layer->pool == EDGELINE_MAX_POOL ? edgeline_max(pooled, next) : pooled + next;
        }
        if (layer->pool == EDGELINE_AVERAGE_POOL) pooled = pooled * edgeline_all(1.0f / (float)count);
    }
    return edgeline_activate_all(pooled, layer->behind);
}

/* `taps` taps that lie beside each other, one or EDGELINE_NUMBERS, added to the sums of a tile. */
EDGELINE_INLINE void edgeline_conv2d_taps(const edgeline_conv2d *layer, const float *from, const float *w,
                                          ptrdiff_t block, const int taps, const int pixels, const int vectors,
                                          edgeline_vf sums[EDGELINE_TILE_VECTORS][EDGELINE_TILE_PIXELS])
{
    const int columns = layer->pool_columns, count = layer->pool_rows * columns;
    edgeline_vf weights[EDGELINE_NUMBERS][EDGELINE_TILE_VECTORS];
    EDGELINE_UNROLL
    for (int t = 0; t < taps; t++) {
        EDGELINE_UNROLL
        for (int v = 0; v < vectors; v++) {
            const int lane = v * EDGELINE_LANES;
            weights[t][v] =
                edgeline_load(w + t * EDGELINE_BLOCK + lane / EDGELINE_BLOCK * block + lane % EDGELINE_BLOCK);
        }
    }
    EDGELINE_UNROLL
    for (int p = 0; p < pixels; p++) {
        const ptrdiff_t row = p % count / columns, column = p / count * columns + p % columns;
        const edgeline_vf numbers = edgeline_numbers(from + row * layer->in_row + column * layer->in_column, taps);
        EDGELINE_UNROLL
        for (int t = 0; t < taps; t++) {
            EDGELINE_UNROLL
            for (int v = 0; v < vectors; v++)
                sums[v][p] = edgeline_plus_product(sums[v][p], numbers, t, weights[t][v]);
        }
    }
}

/* A row of taps that lie beside each other, as the tile's pixels do: what they share is read once, a vector at a time.
 * `beside` pixels of a row lie beside each other, a number apart. */
EDGELINE_INLINE void edgeline_conv2d_shared(const edgeline_conv2d *layer, const float *from, const float *w,
                                            ptrdiff_t block, const int pixels, const int vectors,
                                            edgeline_vf sums[EDGELINE_TILE_VECTORS][EDGELINE_TILE_PIXELS])
{
    const int taps = layer->taps[2].count, all = pixels + taps - 1;
    edgeline_vf numbers[EDGELINE_SHARED_NUMBERS];
    EDGELINE_UNROLL
    for (int i = 0; i < all; i += EDGELINE_NUMBERS)
        if (i + EDGELINE_NUMBERS <= all) numbers[i] = edgeline_load(from + i);
        else
            for (int k = i; k < all; k++) numbers[k] = edgeline_all(from[k]);
    EDGELINE_UNROLL
    for (int t = 0; t < taps; t++) {
        EDGELINE_UNROLL
        for (int v = 0; v < vectors; v++) {
            const int lane = v * EDGELINE_LANES;
            const edgeline_vf weights =
                edgeline_load(w + t * EDGELINE_BLOCK + lane / EDGELINE_BLOCK * block + lane % EDGELINE_BLOCK);
            EDGELINE_UNROLL
            for (int p = 0; p < pixels; p++) {
                const int at = p + t, whole = at / EDGELINE_NUMBERS * EDGELINE_NUMBERS;
                if (whole + EDGELINE_NUMBERS <= all)
                    sums[v][p] = edgeline_plus_product(sums[v][p], numbers[whole], at % EDGELINE_NUMBERS, weights);
                else
                    sums[v][p] = edgeline_plus_product(sums[v][p], numbers[at], 0, weights);
            }
        }
    }
}

/* The sums of a tile: `pixels` of the convolution, in the order of their windows, times `vectors` of channels. */
EDGELINE_INLINE void edgeline_conv2d_sums(const edgeline_conv2d *layer, const float *x, const float *w, const float *b,
                                          ptrdiff_t block, const int pixels, const int vectors,
                                          edgeline_vf sums[EDGELINE_TILE_VECTORS][EDGELINE_TILE_PIXELS])
{
    const int count = layer->pool_rows * layer->pool_columns;
    EDGELINE_UNROLL
    for (int v = 0; v < vectors; v++) {
        const edgeline_vf bias = edgeline_load(b + v * EDGELINE_LANES);
        EDGELINE_UNROLL
        for (int p = 0; p < pixels; p++) sums[v][p] = bias;
    }
    for (int i = 0; i < layer->taps[0].count; i++)
        for (int j = 0; j < layer->taps[1].count; j++) {
            const float *from = x + i * layer->taps[0].stride + j * layer->taps[1].stride;
            int k = 0;
            if (EDGELINE_NUMBERS > 1 && layer->in_column == 1 && count == 1 && layer->taps[2].stride == 1 &&
                pixels + layer->taps[2].count <= EDGELINE_SHARED_NUMBERS) {
                edgeline_conv2d_shared(layer, from, w, block, pixels, vectors, sums);
                w += layer->taps[2].count * EDGELINE_BLOCK;
                continue;
            }
            for (; EDGELINE_NUMBERS > 1 && layer->taps[2].stride == 1 && k + EDGELINE_NUMBERS <= layer->taps[2].count;
                 k += EDGELINE_NUMBERS) {
                edgeline_conv2d_taps(layer, from, w, block, EDGELINE_NUMBERS, pixels, vectors, sums);
                from += EDGELINE_NUMBERS;
                w += EDGELINE_NUMBERS * EDGELINE_BLOCK;
            }
            for (; k < layer->taps[2].count; k++) {
                edgeline_conv2d_taps(layer, from, w, block, 1, pixels, vectors, sums);
                from += layer->taps[2].stride;
                w += EDGELINE_BLOCK;
            }
        }
}

EDGELINE_INLINE void edgeline_conv2d_tile(const edgeline_conv2d *layer, const float *x, const float *w, const float *b,
                                          float *y, ptrdiff_t block, int channels, const int windows, const int vectors)
{
    const int count = layer->pool_rows * layer->pool_columns;
    edgeline_vf sums[EDGELINE_TILE_VECTORS][EDGELINE_TILE_PIXELS];
    edgeline_conv2d_sums(layer, x, w, b, block, windows * count, vectors, sums);
    EDGELINE_UNROLL
    for (int v = 0; v < vectors; v++) {
        EDGELINE_UNROLL
        for (int p = 0; p < windows; p++)
            edgeline_store_first(y + p * layer->out_column + v * EDGELINE_LANES,
                                 edgeline_conv2d_pooled(layer, &sums[v][p * count], count),
                                 channels - v * EDGELINE_LANES);
    }
}

/* A row of tiles; the last one begins early enough to end with the row, and computes some pixels again. */
EDGELINE_INLINE void edgeline_conv2d_row(const edgeline_conv2d *layer, const float *x, const float *w, const float *b,
                                         float *y, ptrdiff_t block, int channels, const int vectors)
{
    const int window = layer->pool_rows * layer->pool_columns;
    const int room = EDGELINE_TILE_ROOM(vectors) / (vectors * window);
    const int most = room > 1 ? room : 1, tiles = (layer->columns + most - 1) / most;
    const int windows = (layer->columns + tiles - 1) / tiles;
    for (int t = 0; t < tiles; t++) {
        const int at = t * windows < layer->columns - windows ? t * windows : layer->columns - windows;
        edgeline_conv2d_tile(layer, x + at * layer->pool_columns * layer->in_column, w, b, y + at * layer->out_column,
                             block, channels, windows, vectors);
    }
}

/* Computes the part `part` of `parts` of the layer: each has its own blocks of channels and rows. */
EDGELINE_INLINE void edgeline_conv2d_f32(const edgeline_conv2d *layer, const float *x, const float *w, const float *b,
                                         float *y, int part, int parts)
{
    const ptrdiff_t block =
        (ptrdiff_t)layer->taps[0].count * layer->taps[1].count * layer->taps[2].count * EDGELINE_BLOCK;
    const int wide = EDGELINE_TILE_VECTORS * EDGELINE_LANES < layer->blocks * EDGELINE_BLOCK
                         ? EDGELINE_TILE_VECTORS * EDGELINE_LANES
                         : layer->blocks * EDGELINE_BLOCK;
    const int groups = layer->out_channels / wide, rest = layer->out_channels % wide;
    const int units = (groups + (rest > 0)) * layer->rows;
    for (int unit = units * part / parts; unit < units * (part + 1) / parts; unit++) {
        const int channel = unit / layer->rows * wide, row = unit % layer->rows;
        const float *from = x + row * layer->pool_rows * layer->in_row;
        const float *weights = w + channel / EDGELINE_BLOCK * block + channel % EDGELINE_BLOCK;
        float *to = y + row * layer->out_row + channel;
        if (channel + wide <= layer->channels)
            edgeline_conv2d_row(layer, from, weights, b + channel, to, block, wide, wide / EDGELINE_LANES);
        else
            edgeline_conv2d_row(layer, from, weights, b + channel, to, block, layer->channels % wide,
                                (rest ? rest : wide) / EDGELINE_LANES);
    }
}
