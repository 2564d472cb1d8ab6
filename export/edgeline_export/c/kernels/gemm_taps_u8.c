/* QLinearMatMul for microcontrollers, with the table behind it: rows by constant weights, four columns at a time.
 *
 * x  [rows, k] by `in_row`
 * w  [(columns + 3) / 4] tiles of `size` weights, as taps_u8s8.c has them; f, b [columns]
 * y  [rows, columns] by `out_row`, bytes or the sums as floats
 * scratch: the taps of a row
 *
 * needs: finish_taps_u8 */

typedef struct {
    edgeline_taps taps;
    int columns, size;
    ptrdiff_t in_row, out_row;
    int floats;
    edgeline_finish finish;
} edgeline_gemm_taps_layer;

static EDGELINE_SHARED void edgeline_gemm_taps_u8(const edgeline_gemm_taps_layer *layer, const uint8_t *x,
                                                  const edgeline_weight *w, const float *f, const int32_t *b,
                                                  const uint8_t *table, void *y, size_t rows, void *scratch)
{
    edgeline_tap *buffer = (edgeline_tap *)scratch;
    for (ptrdiff_t to = 0; rows > 0; rows--, x += layer->in_row, to += layer->out_row) {
        edgeline_gather(&layer->taps, 1, x, EDGELINE_SECOND_HALF(&layer->taps), buffer);
        const edgeline_weight *weights = w;
        for (int column = 0; column < layer->columns; column += 4, weights += layer->size) {
            const int left = layer->columns - column, columns = left < 4 ? left : 4;
            int32_t sums[4];
            edgeline_tile_1x4(buffer, weights, layer->taps.steps, sums);
            if (layer->floats)
                edgeline_finish_floats(sums, columns, f + column, b + column, (float *)y + to + column);
            else
                edgeline_finish_sums(&layer->finish, sums, 1, 4, columns, f + column, b + column, table,
                                     (uint8_t *)y + to + column);
        }
    }
}
