/* QLinearMatMul of rows by constant weights, with the table behind it: bytes, output columns in the lanes.
 *
 * x  [rows, k] by `in_row`; up to three bytes behind a row are read, and meet weights of 0
 * w  [n / panel][fours][panel][4], the last panel narrower; n and panel multiples of BLOCK. One stream, read once for
 *    all rows: those of a tile share what is in registers, those of a block what is in the caches, so that the layer
 *    is as fast as its weights come from memory with few rows alone
 * f  [n] factors, b [n]
 * y  [rows, columns] by `out_row`, bytes or the sums as floats; columns that only fill up a block are not written
 *
 * needs: dot_u8s8 finish_u8 */

enum { EDGELINE_DOT_ROWS = 8, EDGELINE_DOT_COLUMNS = 8 };

typedef struct {
    int fours, columns, n; /* n: columns with whole blocks */
    int panel;
    int most_rows; /* of a tile, 1 to 8: more rows are faster and more code */
    ptrdiff_t in_row, out_row;
    int floats;
    edgeline_finish finish;
} edgeline_gemm_u8_layer;

/* Results behind `y`, bytes or floats. */
EDGELINE_INLINE void *edgeline_gemm_u8_at(const edgeline_gemm_u8_layer *layer, void *y, ptrdiff_t results)
{
    return layer->floats ? (void *)((float *)y + results) : (void *)((uint8_t *)y + results);
}

/* `rows` times `vectors` sums. A single vector would wait for itself: so many chains as make eight sums go beside. */
EDGELINE_INLINE void edgeline_gemm_u8_tile(const edgeline_gemm_u8_layer *layer, const uint8_t *x, const int8_t *w,
                                           const float *f, const int32_t *b, const uint8_t *table, void *y,
                                           ptrdiff_t step, int columns, const int rows, const int vectors)
{
    const int chains = rows * vectors >= 8 || layer->fours < 8 || EDGELINE_SUMS == 1 ? 1
                       : rows * vectors >= 4                                         ? 2
                       : rows * vectors >= 2                                         ? 4
                                                                                     : 8;
    edgeline_dots sums[EDGELINE_DOT_ROWS][EDGELINE_DOT_COLUMNS][8];
    EDGELINE_UNROLL
    for (int v = 0; v < vectors; v++) {
        const edgeline_dots bias = edgeline_dots_from(edgeline_sums_load(b + v * EDGELINE_SUMS));
        EDGELINE_UNROLL
        for (int r = 0; r < rows; r++) {
            sums[r][v][0] = bias;
            EDGELINE_UNROLL
            for (int c = 1; c < chains; c++) sums[r][v][c] = edgeline_dots_from(edgeline_sums_zero());
        }
    }
    int i = 0;
    for (; EDGELINE_FOURS > 1 && i + EDGELINE_FOURS <= layer->fours; i += EDGELINE_FOURS) {
        edgeline_fours_x fours[EDGELINE_DOT_ROWS];
        EDGELINE_UNROLL
        for (int r = 0; r < rows; r++) fours[r] = edgeline_fours_of_x(x + r * layer->in_row + 4 * i, EDGELINE_FOURS);
        EDGELINE_UNROLL
        for (int place = 0; place < EDGELINE_FOURS; place++) {
            EDGELINE_UNROLL
            for (int v = 0; v < vectors; v++) {
                const edgeline_w4 weights = edgeline_w4_load(w + v * EDGELINE_SUMS * 4);
                EDGELINE_UNROLL
                for (int r = 0; r < rows; r++)
                    sums[r][v][place % chains] =
                        edgeline_dot4_by_x(sums[r][v][place % chains], fours[r], place, weights);
            }
            w += step;
        }
    }
    for (; i + chains <= layer->fours; i += chains) {
        EDGELINE_UNROLL
        for (int c = 0; c < chains; c++) {
            edgeline_w4 weights[EDGELINE_DOT_COLUMNS];
            EDGELINE_UNROLL
            for (int v = 0; v < vectors; v++) weights[v] = edgeline_w4_load(w + v * EDGELINE_SUMS * 4);
            w += step;
            EDGELINE_UNROLL
            for (int r = 0; r < rows; r++) {
                const edgeline_fours_x four = edgeline_fours_of_x(x + r * layer->in_row + 4 * (i + c), 1);
                EDGELINE_UNROLL
                for (int v = 0; v < vectors; v++)
                    sums[r][v][c] = edgeline_dot4_by_x(sums[r][v][c], four, -1, weights[v]);
            }
        }
    }
    for (; i < layer->fours; i++, w += step) {
        EDGELINE_UNROLL
        for (int r = 0; r < rows; r++) {
            const edgeline_fours_x four = edgeline_fours_of_x(x + r * layer->in_row + 4 * i, 1);
            EDGELINE_UNROLL
            for (int v = 0; v < vectors; v++)
                sums[r][v][0] =
                    edgeline_dot4_by_x(sums[r][v][0], four, -1, edgeline_w4_load(w + v * EDGELINE_SUMS * 4));
        }
    }
    EDGELINE_UNROLL
    for (int v = 0; v < vectors; v++) {
        const edgeline_factors factors = edgeline_factors_load(f + v * EDGELINE_SUMS);
        EDGELINE_UNROLL
        for (int r = 0; r < rows; r++) {
            edgeline_dots dots = sums[r][v][0];
            EDGELINE_UNROLL
            for (int c = 1; c < chains; c++) dots = edgeline_dots_add(dots, sums[r][v][c]);
            const edgeline_sums sum = edgeline_dots_sums(dots);
            void *to = edgeline_gemm_u8_at(layer, y, r * layer->out_row + v * EDGELINE_SUMS);
            const int left = columns - v * EDGELINE_SUMS;
            if (layer->floats)
                edgeline_floats_store(to, edgeline_settled(edgeline_times(sum, factors)), left);
            else
                edgeline_bytes_store(to, edgeline_finished(&layer->finish, table, factors, &sum, 1), left);
        }
    }
}

/* One panel, or the part of it that `columns` fill, for samples from `first` on below `end`, `rows` of them at a time:
 * as many vectors as stay in registers, and then all samples, while the weights of these columns are in a cache.
 * Returns the first sample of those that are left, too few for a tile. */
EDGELINE_INLINE size_t edgeline_gemm_u8_panel(const edgeline_gemm_u8_layer *layer, const uint8_t *x, const int8_t *w,
                                              const float *f, const int32_t *b, const uint8_t *table, void *y,
                                              const int columns, const int width, size_t first, size_t end,
                                              const int rows)
{
    const size_t turns = (end - first) / (size_t)rows;
    if (turns == 0) return first;
    const int room = (EDGELINE_DOT_ROOM - 2 * EDGELINE_OPERAND) / (rows + EDGELINE_OPERAND);
    const int all = width / EDGELINE_SUMS;
    const int most = room < 1 ? 1 : room < EDGELINE_DOT_COLUMNS ? room : EDGELINE_DOT_COLUMNS;
    const int tiles = (all + most - 1) / most, vectors = (all + tiles - 1) / tiles;
    x += (ptrdiff_t)first * layer->in_row;
    y = edgeline_gemm_u8_at(layer, y, (ptrdiff_t)first * layer->out_row);
    for (int t = 0; t < tiles; t++) {
        const int at = (t * vectors < all - vectors ? t * vectors : all - vectors) * EDGELINE_SUMS;
        const uint8_t *from = x;
        void *into = edgeline_gemm_u8_at(layer, y, at);
        for (size_t turn = 0; turn < turns; turn++) {
            edgeline_gemm_u8_tile(layer, from, w + at * 4, f + at, b + at, table, into, (ptrdiff_t)width * 4,
                                  columns - at, rows, vectors);
            from += rows * layer->in_row;
            into = edgeline_gemm_u8_at(layer, into, rows * layer->out_row);
        }
    }
    return first + turns * (size_t)rows;
}

/* A panel for all samples: eight at a time, and what is left in fours, twos and ones. */
EDGELINE_INLINE void edgeline_gemm_u8_rows(const edgeline_gemm_u8_layer *layer, const uint8_t *x, const int8_t *w,
                                           const float *f, const int32_t *b, const uint8_t *table, void *y,
                                           const int columns, const int width, size_t rows)
{
    size_t done = 0;
    if (layer->most_rows >= 8)
        done = edgeline_gemm_u8_panel(layer, x, w, f, b, table, y, columns, width, done, rows, 8);
    if (layer->most_rows >= 4)
        done = edgeline_gemm_u8_panel(layer, x, w, f, b, table, y, columns, width, done, rows, 4);
    if (layer->most_rows >= 2)
        done = edgeline_gemm_u8_panel(layer, x, w, f, b, table, y, columns, width, done, rows, 2);
    edgeline_gemm_u8_panel(layer, x, w, f, b, table, y, columns, width, done, rows, 1);
}

/* Computes the part `part` of `parts` of the layer for `rows` samples: each has its own panels. */
EDGELINE_INLINE void edgeline_gemm_u8(const edgeline_gemm_u8_layer *layer, const uint8_t *x, const int8_t *w,
                                      const float *f, const int32_t *b, const uint8_t *table, void *y, size_t rows,
                                      int part, int parts)
{
    const int panels = layer->n / layer->panel, rest = layer->n % layer->panel, all = panels + (rest > 0);
    for (int p = all * part / parts; p < all * (part + 1) / parts; p++) {
        const ptrdiff_t at = (ptrdiff_t)p * layer->panel;
        const int8_t *weights = w + at * layer->fours * 4;
        void *results = edgeline_gemm_u8_at(layer, y, at);
        if (at + layer->panel <= layer->columns)
            edgeline_gemm_u8_rows(layer, x, weights, f + at, b + at, table, results, layer->panel, layer->panel, rows);
        else
            edgeline_gemm_u8_rows(layer, x, weights, f + at, b + at, table, results, layer->columns % layer->panel,
                                  rest ? rest : layer->panel, rows);
    }
}
