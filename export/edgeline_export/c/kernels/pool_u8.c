/* MaxPool, QLinearAveragePool and QLinearGlobalAveragePool: bytes, channels beside each other.
 *
 * x  [height, width, channels] by `in_row` and `in_column`, without padding: windows are cut at the border;
 *    whole vectors are read, up to 63 bytes behind the last pixel
 * f  [kernel_rows * kernel_columns + 1] factors of the average, by how many numbers it divides by
 * y  [rows, columns, channels] by `out_row` and `out_column`
 *
 * needs: dot_u8s8 */

typedef struct {
    int channels, height, width, rows, columns;
    int kernel_rows, kernel_columns, stride_rows, stride_columns, dilation_rows, dilation_columns;
    int pad_top, pad_left, pad_bottom, pad_right;
    int average, count_include_pad;
    int inner_zero;
    edgeline_grid grid;
    ptrdiff_t in_row, in_column, out_row, out_column;
} edgeline_pool_u8_layer;

/* Of `kernel` taps, `dilation` apart from `first` on, those from the first at or behind 0 to the last before `size`. */
EDGELINE_INLINE int edgeline_first_tap(int first, int dilation)
{
    return first < 0 ? (-first + dilation - 1) / dilation : 0;
}
EDGELINE_INLINE int edgeline_end_tap(int first, int dilation, int kernel, int size)
{
    const int end = first < size ? (size - first + dilation - 1) / dilation : 0;
    return end < kernel ? end : kernel;
}

/* One output pixel: taps i0 to i1 and j0 to j1 lie in the input. */
EDGELINE_INLINE void edgeline_pool_u8_pixel(const edgeline_pool_u8_layer *layer, const uint8_t *x, float factor,
                                            uint8_t *to, const int i0, const int i1, const int j0, const int j1)
{
    const ptrdiff_t down = layer->dilation_rows * layer->in_row, right = layer->dilation_columns * layer->in_column;
    if (!layer->average) {
        for (int k = 0; k < layer->channels; k += 4 * EDGELINE_SUMS) {
            const int left = layer->channels - k;
            edgeline_x4 largest = edgeline_x4_load(x + i0 * down + j0 * right + k);
            for (int i = i0; i < i1; i++)
                for (int j = j0; j < j1; j++)
                    largest = edgeline_x4_max(largest, edgeline_x4_load(x + i * down + j * right + k));
            memcpy(to + k, &largest, (size_t)(left < 4 * EDGELINE_SUMS ? left : 4 * EDGELINE_SUMS));
        }
        return;
    }
    const int32_t zero = -(i1 - i0) * (j1 - j0) * layer->inner_zero;
    for (int k = 0; k < layer->channels; k += EDGELINE_SUMS) {
        edgeline_sums total = edgeline_sums_all(zero);
        for (int i = i0; i < i1; i++)
            for (int j = j0; j < j1; j++)
                total = edgeline_sums_add(total, edgeline_bytes_load(x + i * down + j * right + k));
        edgeline_bytes_store(to + k, edgeline_onto(edgeline_times(total, edgeline_factors_all(factor)), &layer->grid),
                             layer->channels - k);
    }
}

EDGELINE_INLINE void edgeline_pool_u8(const edgeline_pool_u8_layer *layer, const uint8_t *x, const float *f, uint8_t *y)
{
    const int kernel_rows = layer->kernel_rows, kernel_columns = layer->kernel_columns;
    const int down = layer->dilation_rows, right = layer->dilation_columns;
    for (int row = 0; row < layer->rows; row++)
        for (int column = 0; column < layer->columns; column++) {
            const int top = row * layer->stride_rows - layer->pad_top;
            const int left = column * layer->stride_columns - layer->pad_left;
            const int i0 = edgeline_first_tap(top, down), i1 = edgeline_end_tap(top, down, kernel_rows, layer->height);
            const int j0 = edgeline_first_tap(left, right);
            const int j1 = edgeline_end_tap(left, right, kernel_columns, layer->width);
            int count = (i1 - i0) * (j1 - j0);
            if (layer->count_include_pad)
                count = edgeline_end_tap(top, down, kernel_rows, layer->height + layer->pad_bottom) *
                        edgeline_end_tap(left, right, kernel_columns, layer->width + layer->pad_right);
            const uint8_t *from = x + top * layer->in_row + left * layer->in_column;
            uint8_t *to = y + row * layer->out_row + column * layer->out_column;
            const float factor = layer->average ? f[count] : 0.0f;
            if (i0 == 0 && i1 == kernel_rows && j0 == 0 && j1 == kernel_columns)
                edgeline_pool_u8_pixel(layer, from, factor, to, 0, kernel_rows, 0, kernel_columns);
            else
                edgeline_pool_u8_pixel(layer, from, factor, to, i0, i1, j0, j1);
        }
}
