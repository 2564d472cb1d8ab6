/* QLinearConv of one input channel, with the table and the pooling behind it: bytes, pixels of a row in the lanes.
 *
 * For layers with few output channels, which would leave lanes empty. The input is first expanded: for each column the
 * four numbers that begin there, which are what a lane needs for four taps. Columns f, f + phases, f + 2 phases ... lie
 * beside each other, where `phases` is the step from one output pixel to the next, so that a vector holds what the
 * pixels of a row need for any tap and any place in their pooling windows.
 *
 * x  [padded height, padded width] by `x_row`, at the first tap of the first pixel; its padding is in memory, and
 *    BLOCK * phases + 4 bytes behind it may be read
 * expanded  [in_rows][phases][phase_columns][4], and BLOCK * 4 bytes of room; phase_columns a multiple of BLOCK
 * w  [kernel_rows][fours][channels][4], f [channels] factors, b [channels]
 * order  [2][64]: where each byte of a row of 16 pixels comes from, among the bytes of eight channels by fours
 * y  [rows, columns, channels] by `out_row` and `out_column`, channels beside each other
 *
 * needs: dot_u8s8 finish_u8 */

enum { EDGELINE_PLANAR_BYTES = 8, EDGELINE_PLANAR_WINDOW = 9 };

typedef struct {
    int channels, rows, columns; /* of the output, behind the pooling */
    int in_rows, kernel_rows, fours;
    int stride_rows, stride_columns, dilation_rows;
    ptrdiff_t x_row;
    int phases, phase_columns;
    ptrdiff_t out_row, out_column;
    edgeline_finish finish;
} edgeline_conv2d_planar_u8_layer;

EDGELINE_INLINE void edgeline_conv2d_planar_u8_expand(const edgeline_conv2d_planar_u8_layer *layer, const uint8_t *x,
                                                      uint8_t *expanded)
{
    for (int r = 0; r < layer->in_rows; r++) {
        EDGELINE_UNROLL
        for (int f = 0; f < layer->phases; f++) {
            const uint8_t *from = x + r * layer->x_row + f;
            uint8_t *to = expanded + (ptrdiff_t)(r * layer->phases + f) * layer->phase_columns * 4;
            int i = 0;
#if EDGELINE_SUMS == 16 && defined(__AVX512VBMI__)
            const __m512i column = _mm512_mullo_epi32(
                _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0),
                _mm512_set1_epi32(layer->phases * 0x01010101));
            const __m512i order = _mm512_add_epi32(column, _mm512_set1_epi32(0x03020100));
            for (; layer->phases <= 4 && i < layer->phase_columns; i += 16)
                _mm512_storeu_si512((void *)(to + 4 * i),
                                    _mm512_permutexvar_epi8(order, edgeline_x4_load(from + i * layer->phases)));
#elif EDGELINE_SUMS > 1 && defined(__SSSE3__)
            const int32_t step = layer->phases * 0x01010101;
            const __m128i order = _mm_add_epi32(_mm_set_epi32(3 * step, 2 * step, step, 0), _mm_set1_epi32(0x03020100));
            for (; layer->phases <= 4 && i < layer->phase_columns; i += 4)
                _mm_storeu_si128((void *)(to + 4 * i),
                                 _mm_shuffle_epi8(_mm_loadu_si128((const void *)(from + i * layer->phases)), order));
#elif EDGELINE_SUMS > 1 && defined(__aarch64__)
            const uint32_t step = (uint32_t)layer->phases * 0x01010101u, first = 0x03020100u;
            const uint32x4_t order = {first, first + step, first + 2 * step, first + 3 * step};
            for (; layer->phases <= 4 && i < layer->phase_columns; i += 4) {
                const uint8x16_t bytes = vqtbl1q_u8(vld1q_u8(from + i * layer->phases), vreinterpretq_u8_u32(order));
                vst1q_u8(to + 4 * i, vreinterpretq_u8_s32(edgeline_x4_expanded(vreinterpretq_s32_u8(bytes))));
            }
#endif
            for (; i < layer->phase_columns; i++) {
                memcpy(to + 4 * i, from + i * layer->phases, 4);
#if EDGELINE_DOT_OFFSET == 128 && EDGELINE_SUMS > 1
                for (int k = 0; k < 4; k++) to[4 * i + k] ^= 0x80;
#endif
            }
        }
    }
}

/* Pixels of `channels` bytes each from vectors with a channel in each byte of a lane; `lanes` of them, at most all. */
EDGELINE_INLINE void edgeline_conv2d_planar_u8_store(const edgeline_conv2d_planar_u8_layer *layer,
                                                     const edgeline_sums *four, const uint8_t *order, uint8_t *y,
                                                     int lanes, const int channels)
{
    const int count = lanes < EDGELINE_SUMS ? lanes : EDGELINE_SUMS;
#if EDGELINE_SUMS == 16 && defined(__AVX512VBMI__)
    if (channels == layer->channels && layer->out_column == channels) {
        EDGELINE_UNROLL
        for (int half = 0; half < 2; half++) {
            const int bytes = count * channels - 64 * half;
            if (bytes <= 0) break;
            const __m512i v = _mm512_permutex2var_epi8(four[0], edgeline_x4_load(order + 64 * half), four[1]);
            if (bytes >= 64)
                _mm512_storeu_si512((void *)(y + 64 * half), v);
            else
                _mm512_mask_storeu_epi8(y + 64 * half, ~(__mmask64)0 >> (64 - bytes), v);
        }
        return;
    }
#endif
    (void)order;
#if EDGELINE_FOURS == 4 && defined(__aarch64__)
    if (count == EDGELINE_SUMS) {
        EDGELINE_UNROLL
        for (int i = 0; i < EDGELINE_SUMS; i++) {
            EDGELINE_UNROLL
            for (int c = 0; c < channels; c += 4) {
                const uint32_t bytes = (uint32_t)four[c / 4][i];
                memcpy(y + i * layer->out_column + c, &bytes, (size_t)(channels - c < 4 ? channels - c : 4));
            }
        }
        return;
    }
#endif
    uint8_t bytes[2][4 * EDGELINE_SUMS];
    memcpy(bytes, four, sizeof bytes);
    for (int i = 0; i < count; i++) {
        uint8_t *to = y + i * layer->out_column;
        EDGELINE_UNROLL
        for (int c = 0; c < channels; c++) to[c] = bytes[c / 4][4 * i + c % 4];
    }
}

EDGELINE_INLINE void edgeline_conv2d_planar_u8_tile(const edgeline_conv2d_planar_u8_layer *layer,
                                                    const uint8_t *expanded, const int8_t *w, const float *f,
                                                    const int32_t *b, const uint8_t *table, const uint8_t *order,
                                                    uint8_t *y, int lanes, const int channels)
{
    const edgeline_finish *finish = &layer->finish;
    const int count = finish->pool_rows * finish->pool_columns;
    const ptrdiff_t row = (ptrdiff_t)layer->phases * layer->phase_columns;
    edgeline_dots sums[EDGELINE_PLANAR_BYTES][EDGELINE_PLANAR_WINDOW];
    EDGELINE_UNROLL
    for (int c = 0; c < channels; c++) {
        EDGELINE_UNROLL
        for (int p = 0; p < count; p++) sums[c][p] = edgeline_dots_from(edgeline_sums_all(b[c]));
    }
    for (int i = 0; i < layer->kernel_rows; i++) {
        const uint8_t *from = expanded + 4 * i * layer->dilation_rows * row;
        if (EDGELINE_FOURS > 1) EDGELINE_READ_HERE(from);
        edgeline_fours_w weights = edgeline_fours_of_w(w, 1);
        EDGELINE_UNROLL
        for (int k = 0; k < layer->fours; k++) {
            edgeline_x4 numbers[EDGELINE_PLANAR_WINDOW];
            EDGELINE_UNROLL
            for (int p = 0; p < count; p++) {
                const int column = p % finish->pool_columns * layer->stride_columns + 4 * k;
                const ptrdiff_t at = p / finish->pool_columns * layer->stride_rows * row +
                                     column % layer->phases * layer->phase_columns + column / layer->phases;
                numbers[p] = edgeline_x4_load(from + 4 * at);
            }
            EDGELINE_UNROLL
            for (int c = 0; c < channels; c++) {
                /* Where this tile has all channels, those of all fours are one run. */
                const int all = channels == layer->channels, run = all ? channels * layer->fours : channels;
                const int at = (all ? k * channels : 0) + c, place = at % EDGELINE_FOURS;
                const int many = EDGELINE_FOURS > 1 && at - place + EDGELINE_FOURS <= run;
                if (!many || place == 0)
                    weights = edgeline_fours_of_w(w + 4 * (k * layer->channels + c), many ? EDGELINE_FOURS : 1);
                EDGELINE_UNROLL
                for (int p = 0; p < count; p++)
                    sums[c][p] = edgeline_dot4_by_w(sums[c][p], numbers[p], weights, many ? place : -1);
            }
        }
        w += layer->fours * layer->channels * 4;
    }
    edgeline_sums four[2] = {edgeline_sums_zero(), edgeline_sums_zero()};
    EDGELINE_UNROLL
    for (int c = 0; c < channels; c++)
    {
        edgeline_sums window[EDGELINE_PLANAR_WINDOW];
        EDGELINE_UNROLL
        for (int p = 0; p < count; p++) window[p] = edgeline_dots_sums(sums[c][p]);
        four[c / 4] = edgeline_with_byte(
            four[c / 4], edgeline_finished(finish, table, edgeline_factors_all(f[c]), window, count), c % 4);
    }
    edgeline_conv2d_planar_u8_store(layer, four, order, y, lanes, channels);
}

EDGELINE_INLINE void edgeline_conv2d_planar_u8(const edgeline_conv2d_planar_u8_layer *layer, const uint8_t *x,
                                               uint8_t *expanded, const int8_t *w, const float *f, const int32_t *b,
                                               const uint8_t *order, const uint8_t *table, uint8_t *y)
{
#ifdef EDGELINE_PLANAR_I8MM
    if (edgeline_conv2d_planar_i8mm_fits(&layer->finish, layer->channels, layer->kernel_rows, layer->fours) &&
        layer->stride_rows == 1 && layer->stride_columns == 1 && layer->dilation_rows == 1) {
        edgeline_conv2d_planar_i8mm(&layer->finish, layer->rows, layer->columns, layer->channels, layer->kernel_rows,
                                    layer->x_row, x, w, f, b, table, y, layer->out_row, layer->out_column);
        return;
    }
#endif
    edgeline_conv2d_planar_u8_expand(layer, x, expanded);
#if EDGELINE_FOURS > 1 /* pointers that gcc does not see through: else it reads each vector at an address of its own */
    EDGELINE_READ_HERE(f);
    EDGELINE_READ_HERE(b);
    EDGELINE_READ_HERE(table);
#endif
    const int count = layer->finish.pool_rows * layer->finish.pool_columns;
    const int room = (EDGELINE_DOT_ROOM - (count + 1) * EDGELINE_OPERAND + 1 - EDGELINE_OPERAND) / count;
    const int most = room < 1 ? 1 : room < EDGELINE_PLANAR_BYTES ? room : EDGELINE_PLANAR_BYTES;
    const int tiles = (layer->channels + most - 1) / most, channels = (layer->channels + tiles - 1) / tiles;
    const ptrdiff_t row_of_fours = (ptrdiff_t)layer->phases * layer->phase_columns;
    const ptrdiff_t down = layer->finish.pool_rows * layer->stride_rows * row_of_fours;
    for (int row = 0; row < layer->rows; row++)
        for (int t = 0; t < tiles; t++) {
            const int channel = t * channels < layer->channels - channels ? t * channels : layer->channels - channels;
            for (int column = 0; column < layer->columns; column += EDGELINE_SUMS) {
                /* Without masked stores, the last vector begins early enough to end with the row. */
                const int whole = EDGELINE_FOURS > 1 && layer->columns >= EDGELINE_SUMS;
                const int last = layer->columns - EDGELINE_SUMS, at = whole && column > last ? last : column;
                edgeline_conv2d_planar_u8_tile(layer, expanded + 4 * (row * down + at), w + 4 * channel, f + channel,
                                               b + channel, table, order,
                                               y + row * layer->out_row + at * layer->out_column + channel,
                                               whole ? EDGELINE_SUMS : layer->columns - column, channels);
            }
        }
}
