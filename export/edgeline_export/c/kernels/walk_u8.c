/* Element by element over tensors with bytes, in any layouts: up to six dimensions by strides, the last one innermost.
 *
 * move       bytes as they are, or by a table of 256
 * quantise   floats to bytes: x / scale, rounded half to even, plus the zero point, saturated; NaN becomes 0
 * dequantise bytes to floats: (x - zero_point) * scale
 * add        ((fixed + a * factor_a) + b * factor_b) onto the grid, as ONNX Runtime computes it on x86
 * multiply   (a - zero_a) * (b - zero_b) * factor_a onto the grid
 *
 * needs: dot_u8s8 */

enum { EDGELINE_WALK_DIMENSIONS = 6, EDGELINE_MOVE_PARTS = 8 };

typedef struct {
    int sizes[EDGELINE_WALK_DIMENSIONS];
    ptrdiff_t x[EDGELINE_WALK_DIMENSIONS], x1[EDGELINE_WALK_DIMENSIONS], y[EDGELINE_WALK_DIMENSIONS]; /* strides */
    edgeline_grid grid;
    float scale;
    int zero_a, zero_b;
    float factor_a, factor_b, fixed;
    int flip; /* 128 where the bytes are int8 */
} edgeline_walk;

typedef struct {
    edgeline_walk parts[EDGELINE_MOVE_PARTS];
} edgeline_walks;

/* Before `body`, which handles one run along the last dimension: `i`, `i1` and `o` are where it begins. */
#define EDGELINE_WALK(walk, body)                                                                                     \
    for (int n0 = 0; n0 < (walk)->sizes[0]; n0++)                                                                     \
        for (int n1 = 0; n1 < (walk)->sizes[1]; n1++)                                                                 \
            for (int n2 = 0; n2 < (walk)->sizes[2]; n2++)                                                             \
                for (int n3 = 0; n3 < (walk)->sizes[3]; n3++)                                                         \
                    for (int n4 = 0; n4 < (walk)->sizes[4]; n4++) {                                                   \
                        const ptrdiff_t i = n0 * (walk)->x[0] + n1 * (walk)->x[1] + n2 * (walk)->x[2] +               \
                                            n3 * (walk)->x[3] + n4 * (walk)->x[4];                                    \
                        const ptrdiff_t i1 = n0 * (walk)->x1[0] + n1 * (walk)->x1[1] + n2 * (walk)->x1[2] +           \
                                             n3 * (walk)->x1[3] + n4 * (walk)->x1[4];                                 \
                        const ptrdiff_t o = n0 * (walk)->y[0] + n1 * (walk)->y[1] + n2 * (walk)->y[2] +               \
                                            n3 * (walk)->y[3] + n4 * (walk)->y[4];                                    \
                        (void)i1;                                                                                     \
                        body                                                                                          \
                    }

/* Whole vectors of a run by a table, where that is an instruction; returns how many bytes that was. */
EDGELINE_INLINE int edgeline_looked_up_run(const uint8_t *x, const uint8_t *table, uint8_t *y, int count)
{
    int k = 0;
#if EDGELINE_SUMS == 16 && defined(__AVX512VBMI__)
    for (; k + 64 <= count; k += 64)
        _mm512_storeu_si512((void *)(y + k), edgeline_looked_up(edgeline_x4_load(x + k), table));
#else
    (void)x, (void)table, (void)y, (void)count;
#endif
    return k;
}

EDGELINE_INLINE void edgeline_move_u8(const edgeline_walk *walk, const uint8_t *table, const uint8_t *x, uint8_t *y)
{
    const int count = walk->sizes[5];
    const ptrdiff_t s = walk->x[5], t = walk->y[5];
    EDGELINE_WALK(walk, {
        if (table == NULL && s == 1 && t == 1) {
            memcpy(y + o, x + i, (size_t)count);
        } else if (table == NULL) {
            for (int k = 0; k < count; k++) y[o + k * t] = x[i + k * s];
        } else {
            int k = s == 1 && t == 1 ? edgeline_looked_up_run(x + i, table, y + o, count) : 0;
            for (; k < count; k++) y[o + k * t] = table[x[i + k * s]];
        }
    })
}

/* One number, through all lanes: the arithmetic has one place. */
EDGELINE_INLINE uint8_t edgeline_onto_one(float x, const edgeline_grid *grid)
{
    uint8_t byte;
    edgeline_bytes_store(&byte, edgeline_onto(edgeline_factors_all(x), grid), 1);
    return byte;
}

EDGELINE_INLINE void edgeline_quantise(const edgeline_walk *walk, const float *x, uint8_t *y)
{
    const int count = walk->sizes[5];
    const ptrdiff_t s = walk->x[5], t = walk->y[5];
    const edgeline_factors scale = edgeline_factors_all(walk->scale);
    EDGELINE_WALK(walk, {
        int k = 0;
        for (; EDGELINE_FOURS > 1 && s == 1 && t == 1 && walk->flip == 0 && k + EDGELINE_SUMS <= count;
             k += EDGELINE_SUMS) /* without masked stores, whole vectors by themselves */
            edgeline_bytes_store(y + o + k,
                                 edgeline_onto(edgeline_over(edgeline_factors_load(x + i + k), scale), &walk->grid),
                                 EDGELINE_SUMS);
        for (; s == 1 && k < count; k += EDGELINE_SUMS) {
            const int few = count - k < EDGELINE_SUMS ? count - k : EDGELINE_SUMS;
            const edgeline_sums numbers =
                edgeline_onto(edgeline_over(edgeline_floats_load_first(x + i + k, few), scale), &walk->grid);
            if (t == 1 && walk->flip == 0) {
                edgeline_bytes_store(y + o + k, numbers, few);
            } else {
                uint8_t bytes[EDGELINE_SUMS];
                edgeline_bytes_store(bytes, numbers, EDGELINE_SUMS);
                for (int l = 0; l < few; l++) y[o + (k + l) * t] = (uint8_t)(bytes[l] ^ walk->flip);
            }
        }
        for (; k < count; k++)
            y[o + k * t] = (uint8_t)(edgeline_onto_one(x[i + k * s] / walk->scale, &walk->grid) ^ walk->flip);
    })
}

EDGELINE_INLINE void edgeline_dequantise(const edgeline_walk *walk, const uint8_t *x, float *y)
{
    const int count = walk->sizes[5];
    const ptrdiff_t s = walk->x[5], t = walk->y[5];
    const edgeline_factors scale = edgeline_factors_all(walk->scale);
    const edgeline_sums zero = edgeline_sums_all(-walk->zero_a);
    const int whole = s == 1 && t == 1 && walk->flip == 0 ? count / EDGELINE_SUMS * EDGELINE_SUMS : 0;
    EDGELINE_WALK(walk, {
        for (int k = 0; k < whole; k += EDGELINE_SUMS)
            edgeline_floats_store(
                y + o + k,
                edgeline_settled(edgeline_times(edgeline_sums_add(edgeline_bytes_load(x + i + k), zero), scale)),
                EDGELINE_SUMS);
        for (int k = whole; k < count; k++) {
            float one;
            const edgeline_sums number = edgeline_sums_all((x[i + k * s] ^ walk->flip) - walk->zero_a);
            edgeline_floats_store(&one, edgeline_settled(edgeline_times(number, scale)), 1);
            y[o + k * t] = one;
        }
    })
}

EDGELINE_INLINE edgeline_sums edgeline_pair(const edgeline_walk *walk, edgeline_sums a, edgeline_sums b, int add)
{
    const edgeline_factors of_a = edgeline_factors_all(walk->factor_a), of_b = edgeline_factors_all(walk->factor_b);
    if (add) {
        const edgeline_factors first = edgeline_settled(edgeline_times(a, of_a));
        const edgeline_factors second = edgeline_settled(edgeline_times(b, of_b));
        const edgeline_factors both = edgeline_plus(edgeline_plus(edgeline_factors_all(walk->fixed), first), second);
        return edgeline_onto(both, &walk->grid);
    }
    return edgeline_onto(edgeline_times(edgeline_products(edgeline_sums_add(a, edgeline_sums_all(-walk->zero_a)),
                                                          edgeline_sums_add(b, edgeline_sums_all(-walk->zero_b))),
                                        of_a),
                         &walk->grid);
}

EDGELINE_INLINE void edgeline_pair_u8(const edgeline_walk *walk, const uint8_t *x, const uint8_t *x1, uint8_t *y,
                                      int add)
{
    const int count = walk->sizes[5];
    const ptrdiff_t s = walk->x[5], s1 = walk->x1[5], t = walk->y[5];
    EDGELINE_WALK(walk, {
        int k = 0;
        for (; s == 1 && s1 == 1 && t == 1 && k + EDGELINE_SUMS <= count; k += EDGELINE_SUMS)
            edgeline_bytes_store(
                y + o + k, edgeline_pair(walk, edgeline_bytes_load(x + i + k), edgeline_bytes_load(x1 + i1 + k), add),
                EDGELINE_SUMS);
        for (; k < count; k++)
            edgeline_bytes_store(
                y + o + k * t,
                edgeline_pair(walk, edgeline_sums_all(x[i + k * s]), edgeline_sums_all(x1[i1 + k * s1]), add), 1);
    })
}
