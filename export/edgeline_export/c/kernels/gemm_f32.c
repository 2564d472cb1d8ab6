/* Gemm and MatMul with constant weights, with the activations behind it: float, output columns in the lanes.
 *
 * x  [rows, k] by `in_row`
 * w  [n / panel][k][panel], the last panel narrower; n and panel multiples of BLOCK. One stream, read once for all
 *    rows: those of a tile share what is in registers, those of a block what is in the caches, so that the layer is as
 *    fast as its weights come from memory with few rows alone
 * b  [n]
 * y  [rows, columns] by `out_row`; columns that only fill up a block are not written
 *
 * needs: vector activation_f32 */

enum { EDGELINE_GEMM_ROWS = 8, EDGELINE_GEMM_VECTORS = 8 };

typedef struct {
    int k, columns, n; /* n: columns with whole blocks */
    int panel;
    int most_rows;     /* of a tile, 1 to 8: more rows are faster and more code */
    ptrdiff_t in_row, out_row;
    edgeline_activation activations[EDGELINE_MAX_ACTIVATIONS];
} edgeline_gemm;

/* `rows` times `vectors` sums. A single vector would wait for itself: so many chains as make eight sums go beside. */
EDGELINE_INLINE void edgeline_gemm_tile(const edgeline_gemm *layer, const float *x, const float *w, const float *b,
                                        float *y, ptrdiff_t step, int columns, const int rows, const int vectors)
{
    const int chains = rows * vectors >= 8 || layer->k < 8 ? 1 : rows * vectors >= 4 ? 2 : rows * vectors >= 2 ? 4 : 8;
    edgeline_vf sums[EDGELINE_GEMM_ROWS][EDGELINE_GEMM_VECTORS][8];
    EDGELINE_UNROLL
    for (int v = 0; v < vectors; v++) {
        const edgeline_vf bias = edgeline_load(b + v * EDGELINE_LANES);
        EDGELINE_UNROLL
        for (int r = 0; r < rows; r++) {
            sums[r][v][0] = bias;
            EDGELINE_UNROLL
            for (int c = 1; c < chains; c++) sums[r][v][c] = edgeline_all(0.0f);
        }
    }
    int i = 0;
    for (; EDGELINE_NUMBERS > 1 && i + EDGELINE_NUMBERS <= layer->k; i += EDGELINE_NUMBERS) {
        edgeline_vf numbers[EDGELINE_GEMM_ROWS];
        EDGELINE_UNROLL
        for (int r = 0; r < rows; r++) numbers[r] = edgeline_load(x + r * layer->in_row + i);
        EDGELINE_UNROLL
        for (int place = 0; place < EDGELINE_NUMBERS; place++) {
            EDGELINE_UNROLL
            for (int v = 0; v < vectors; v++) {
                const edgeline_vf weights = edgeline_load(w + v * EDGELINE_LANES);
                EDGELINE_UNROLL
                for (int r = 0; r < rows; r++)
                    sums[r][v][place % chains] =
                        edgeline_plus_product(sums[r][v][place % chains], numbers[r], place, weights);
            }
            w += step;
        }
    }
    for (; i + chains <= layer->k; i += chains) {
        EDGELINE_UNROLL
        for (int c = 0; c < chains; c++) {
            edgeline_vf weights[EDGELINE_GEMM_VECTORS];
            EDGELINE_UNROLL
            for (int v = 0; v < vectors; v++) weights[v] = edgeline_load(w + v * EDGELINE_LANES);
            w += step;
            EDGELINE_UNROLL
            for (int r = 0; r < rows; r++) {
                const edgeline_vf number = edgeline_all(x[r * layer->in_row + i + c]);
                EDGELINE_UNROLL
                for (int v = 0; v < vectors; v++) sums[r][v][c] += number * weights[v];
            }
        }
    }
    for (; i < layer->k; i++, w += step) {
        EDGELINE_UNROLL
        for (int r = 0; r < rows; r++) {
            EDGELINE_UNROLL
            for (int v = 0; v < vectors; v++)
                sums[r][v][0] += edgeline_all(x[r * layer->in_row + i]) * edgeline_load(w + v * EDGELINE_LANES);
        }
    }
    EDGELINE_UNROLL
    for (int r = 0; r < rows; r++) {
        EDGELINE_UNROLL
        for (int v = 0; v < vectors; v++) {
            edgeline_vf sum = sums[r][v][0];
            EDGELINE_UNROLL
            for (int c = 1; c < chains; c++) sum += sums[r][v][c];
            edgeline_store_first(y + r * layer->out_row + v * EDGELINE_LANES,
                                 edgeline_activate_all(sum, layer->activations), columns - v * EDGELINE_LANES);
        }
    }
}

/* One panel, or the part of it that `columns` fill, for samples from `first` on below `end`, `rows` of them at a time:
 * as many vectors as stay in registers, and then all samples, while the weights of these columns are in a cache.
 * Returns the first sample of those that are left, too few for a tile. */
EDGELINE_INLINE size_t edgeline_gemm_panel(const edgeline_gemm *layer, const float *x, const float *w, const float *b,
                                           float *y, const int columns, const int width, size_t first, size_t end,
                                           const int rows)
{
    const size_t turns = (end - first) / (size_t)rows;
    if (turns == 0) return first;
    const int room = (EDGELINE_REGISTERS - 2) / (rows + 1), all = width / EDGELINE_LANES;
    const int most = room < 1 ? 1 : room < EDGELINE_GEMM_VECTORS ? room : EDGELINE_GEMM_VECTORS;
    const int tiles = (all + most - 1) / most, vectors = (all + tiles - 1) / tiles;
    x += (ptrdiff_t)first * layer->in_row;
    y += (ptrdiff_t)first * layer->out_row;
    for (int t = 0; t < tiles; t++) {
        const int at = (t * vectors < all - vectors ? t * vectors : all - vectors) * EDGELINE_LANES;
        const float *from = x;
        float *into = y + at;
        for (size_t turn = 0; turn < turns; turn++) {
            edgeline_gemm_tile(layer, from, w + at, b + at, into, width, columns - at, rows, vectors);
            from += rows * layer->in_row;
            into += rows * layer->out_row;
        }
    }
    return first + turns * (size_t)rows;
}

/* A panel for all samples: eight at a time, and what is left in fours, twos and ones. */
EDGELINE_INLINE void edgeline_gemm_rows(const edgeline_gemm *layer, const float *x, const float *w, const float *b,
                                        float *y, const int columns, const int width, size_t rows)
{
    size_t done = 0;
    if (layer->most_rows >= 8) done = edgeline_gemm_panel(layer, x, w, b, y, columns, width, done, rows, 8);
    if (layer->most_rows >= 4) done = edgeline_gemm_panel(layer, x, w, b, y, columns, width, done, rows, 4);
    if (layer->most_rows >= 2) done = edgeline_gemm_panel(layer, x, w, b, y, columns, width, done, rows, 2);
    edgeline_gemm_panel(layer, x, w, b, y, columns, width, done, rows, 1);
}

/* Computes the part `part` of `parts` of the layer for `rows` samples: each has its own panels. */
EDGELINE_INLINE void edgeline_gemm_f32(const edgeline_gemm *layer, const float *x, const float *w, const float *b,
                                       float *y, size_t rows, int part, int parts)
{
    const int panels = layer->n / layer->panel, rest = layer->n % layer->panel, all = panels + (rest > 0);
    for (int p = all * part / parts; p < all * (part + 1) / parts; p++) {
        const ptrdiff_t at = (ptrdiff_t)p * layer->panel;
        if (at + layer->panel <= layer->columns)
            edgeline_gemm_rows(layer, x, w + at * layer->k, b + at, y + at, layer->panel, layer->panel, rows);
        else
            edgeline_gemm_rows(layer, x, w + at * layer->k, b + at, y + at, layer->columns % layer->panel,
                               rest ? rest : layer->panel, rows);
    }
}
