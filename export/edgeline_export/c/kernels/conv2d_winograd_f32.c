/* Conv with fewer multiplications: float, Winograd's minimal filtering along the rows, output channels in the lanes.
 *
 * F(m, r) (Winograd, "Arithmetic Complexity of Computations", 1980; Lavin and Gray, "Fast Algorithms for Convolutional
 * Neural Networks", 2016) computes m outputs of a filter of r taps by m + r - 1 products instead of m * r. Here the m
 * outputs are rows that lie below each other and the products are whole rows: convolutions along the columns alone,
 * each with weights of its own. Only sums of rows come before and behind, so nothing is added for the channels.
 *
 *   rows of a group  d_0 .. d_(terms - 1)  ->  term t: sum over j of input[t][j] * d_j    edgeline_winograd_rows_f32
 *   each term        convolved along its columns with the weights of term t
 *   outputs          row i of the group: sum over t of output[i][t] * term t              edgeline_conv2d_winograd_f32
 *
 * x            rows of numbers: `spans` pieces of `span` numbers that lie beside each other, `x_span` apart
 * transformed  [groups][terms][spans][v_span]
 * w            [terms][out_channels / BLOCK][taps][BLOCK], b [terms][out_channels]
 * y            as in conv2d_f32
 *
 * needs: vector activation_f32 conv2d_f32 */

enum { EDGELINE_WINOGRAD_TERMS = 6, EDGELINE_WINOGRAD_OUTPUTS = 4 };

typedef struct {
    int groups, terms, spans, span, v_span;
    ptrdiff_t x_row, x_span, x_group;
    float input[EDGELINE_WINOGRAD_TERMS][EDGELINE_WINOGRAD_TERMS];
} edgeline_winograd_rows;

/* `count` numbers of each row that one group needs. */
EDGELINE_INLINE void edgeline_winograd_columns_f32(const edgeline_winograd_rows *layer, const float *from, float *to,
                                                   const int count)
{
    edgeline_vf rows[EDGELINE_WINOGRAD_TERMS];
    EDGELINE_UNROLL
    for (int j = 0; j < layer->terms; j++) rows[j] = edgeline_load_first(from + j * layer->x_row, count);
    EDGELINE_UNROLL
    for (int t = 0; t < layer->terms; t++) {
        edgeline_vf sum = edgeline_all(0.0f);
        EDGELINE_UNROLL
        for (int j = 0; j < layer->terms; j++)
            if (layer->input[t][j] != 0.0f) sum += edgeline_all(layer->input[t][j]) * rows[j];
        edgeline_store(to + (ptrdiff_t)t * layer->spans * layer->v_span, sum);
    }
}

EDGELINE_INLINE void edgeline_winograd_rows_f32(const edgeline_winograd_rows *layer, const float *x, float *transformed)
{
    for (int g = 0; g < layer->groups; g++)
        for (int s = 0; s < layer->spans; s++) {
            const float *from = x + g * layer->x_group + s * layer->x_span;
            float *to = transformed + ((ptrdiff_t)g * layer->terms * layer->spans + s) * layer->v_span;
            int i = 0;
            for (; EDGELINE_NUMBERS > 1 && i + EDGELINE_LANES <= layer->span; i += EDGELINE_LANES)
                edgeline_winograd_columns_f32(layer, from + i, to + i, EDGELINE_LANES);
            if (EDGELINE_NUMBERS > 1 && layer->span % EDGELINE_LANES != 0)
                edgeline_winograd_columns_f32(layer, from + i, to + i, layer->span % EDGELINE_LANES);
            for (; EDGELINE_NUMBERS == 1 && i < layer->span; i += EDGELINE_LANES)
                edgeline_winograd_columns_f32(layer, from + i, to + i, layer->span - i);
        }
}

typedef struct {
    edgeline_conv2d multiply; /* a term's convolution: one row, no pooling; its columns are those before the pooling */
    edgeline_conv2d finish;   /* what is behind it: pooling, activations, where it goes */
    int groups, terms, outputs;
    ptrdiff_t term, group;    /* from one transformed term, and from one group of them, to the next */
    float output[EDGELINE_WINOGRAD_OUTPUTS][EDGELINE_WINOGRAD_TERMS];
} edgeline_conv2d_winograd;

/* Some columns of a group: `windows` of the pooling, or pixels where there is none. */
EDGELINE_INLINE void edgeline_conv2d_winograd_tile(const edgeline_conv2d_winograd *layer, const float *transformed,
                                                   const float *w, const float *b, float *y, ptrdiff_t block,
                                                   int channels, const int windows, const int vectors)
{
    const edgeline_conv2d *multiply = &layer->multiply, *finish = &layer->finish;
    const int pixels = windows * finish->pool_columns;
    /* As many vectors as sums stay in registers, or those of a single window. */
    EDGELINE_ALIGNED float terms[EDGELINE_WINOGRAD_TERMS * EDGELINE_REGISTERS * EDGELINE_LANES];
    EDGELINE_NO_UNROLL
    for (int t = 0; t < layer->terms; t++) {
        edgeline_vf sums[EDGELINE_TILE_VECTORS][EDGELINE_TILE_PIXELS];
        edgeline_conv2d_sums(multiply, transformed + t * layer->term, w, b, block, pixels, vectors, sums);
        w += multiply->out_channels / EDGELINE_BLOCK * block;
        b += multiply->out_channels;
        EDGELINE_UNROLL
        for (int v = 0; v < vectors; v++) {
            EDGELINE_UNROLL
            for (int p = 0; p < pixels; p++)
                edgeline_store(terms + ((t * vectors + v) * pixels + p) * EDGELINE_LANES, sums[v][p]);
        }
    }
    EDGELINE_KEEP_IN_MEMORY(terms);
    EDGELINE_NO_UNROLL
    for (int v = 0; v < vectors; v++) {
        EDGELINE_NO_UNROLL
        for (int p = 0; p < windows; p++) {
            edgeline_vf rows[EDGELINE_WINOGRAD_OUTPUTS * EDGELINE_TILE_PIXELS];
            EDGELINE_UNROLL
            for (int c = 0; c < finish->pool_columns; c++) {
                const float *from = terms + (v * pixels + p * finish->pool_columns + c) * EDGELINE_LANES;
                EDGELINE_UNROLL
                for (int i = 0; i < layer->outputs; i++) {
                    edgeline_vf sum = edgeline_all(0.0f);
                    EDGELINE_UNROLL
                    for (int t = 0; t < layer->terms; t++)
                        if (layer->output[i][t] != 0.0f)
                            sum += edgeline_all(layer->output[i][t]) *
                                   edgeline_load(from + t * vectors * pixels * EDGELINE_LANES);
                    rows[i * finish->pool_columns + c] = sum;
                }
            }
            const int window = finish->pool_rows * finish->pool_columns, pooled = layer->outputs / finish->pool_rows;
            EDGELINE_UNROLL
            for (int i = 0; i < pooled; i++)
                edgeline_store_first(y + i * finish->out_row + p * finish->out_column + v * EDGELINE_LANES,
                                     edgeline_conv2d_pooled(finish, rows + i * window, window),
                                     channels - v * EDGELINE_LANES);
        }
    }
}

EDGELINE_INLINE void edgeline_conv2d_winograd_row(const edgeline_conv2d_winograd *layer, const float *transformed,
                                                  const float *w, const float *b, float *y, ptrdiff_t block,
                                                  int channels, const int vectors)
{
    const edgeline_conv2d *finish = &layer->finish;
    const int room = EDGELINE_TILE_ROOM(vectors) / (vectors * finish->pool_columns), most = room > 1 ? room : 1;
    const int tiles = (finish->columns + most - 1) / most, windows = (finish->columns + tiles - 1) / tiles;
    for (int t = 0; t < tiles; t++) {
        const int at = t * windows < finish->columns - windows ? t * windows : finish->columns - windows;
        edgeline_conv2d_winograd_tile(layer, transformed + at * finish->pool_columns * layer->multiply.in_column, w, b,
                                      y + at * finish->out_column, block, channels, windows, vectors);
    }
}

/* Computes the part `part` of `parts` of the layer: each has its own blocks of channels and groups of rows. */
EDGELINE_INLINE void edgeline_conv2d_winograd_f32(const edgeline_conv2d_winograd *layer, const float *transformed,
                                                  const float *w, const float *b, float *y, int part, int parts)
{
    const edgeline_conv2d *multiply = &layer->multiply, *finish = &layer->finish;
    const ptrdiff_t block =
        (ptrdiff_t)multiply->taps[0].count * multiply->taps[1].count * multiply->taps[2].count * EDGELINE_BLOCK;
    const int most = EDGELINE_TILE_VECTORS * EDGELINE_LANES, wanted = multiply->blocks * EDGELINE_BLOCK;
    const int wide = most < wanted ? most : wanted, rest = multiply->out_channels % wide;
    const int units = (multiply->out_channels + wide - 1) / wide * layer->groups;
    for (int unit = units * part / parts; unit < units * (part + 1) / parts; unit++) {
        const int channel = unit / layer->groups * wide, group = unit % layer->groups;
        const float *from = transformed + group * layer->group;
        const float *weights = w + channel / EDGELINE_BLOCK * block + channel % EDGELINE_BLOCK;
        float *to = y + group * (layer->outputs / finish->pool_rows) * finish->out_row + channel;
        if (channel + wide <= finish->channels)
            edgeline_conv2d_winograd_row(layer, from, weights, b + channel, to, block, wide, wide / EDGELINE_LANES);
        else
            edgeline_conv2d_winograd_row(layer, from, weights, b + channel, to, block, finish->channels % wide,
                                         (rest ? rest : wide) / EDGELINE_LANES);
    }
}
