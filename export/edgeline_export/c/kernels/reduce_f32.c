/* ReduceSum, ReduceMean, ReduceMax, ReduceMin, with the activations behind it: float, any layouts by strides.
 *
 * needs: vector activation_f32 lanes_f32 */

enum { EDGELINE_REDUCE_SUM, EDGELINE_REDUCE_MAX, EDGELINE_REDUCE_MIN };

typedef struct {
    int operation;
    int sizes[EDGELINE_DIMENSIONS]; /* what is kept */
    ptrdiff_t to[EDGELINE_DIMENSIONS], from[EDGELINE_DIMENSIONS];
    int counts[EDGELINE_DIMENSIONS]; /* what is reduced */
    ptrdiff_t along[EDGELINE_DIMENSIONS];
    float share; /* 1 over the numbers reduced for a mean, else 1 */
    ptrdiff_t from_sample, to_sample;
    edgeline_activation activations[EDGELINE_MAX_ACTIVATIONS];
} edgeline_reduce;

EDGELINE_INLINE float edgeline_joined(int operation, float a, float b)
{
    return operation == EDGELINE_REDUCE_SUM ? a + b : (operation == EDGELINE_REDUCE_MAX) == (a > b) ? a : b;
}

/* One line of numbers into `total`: a vector of partial results where they lie beside each other. */
EDGELINE_INLINE float edgeline_reduce_line(const edgeline_reduce *layer, const float *x, float total)
{
    const int count = layer->counts[5], operation = layer->operation;
    int i = 0;
    if (layer->along[5] == 1 && count >= 2 * EDGELINE_LANES) {
        edgeline_vf partial = edgeline_load(x);
        for (i = EDGELINE_LANES; i + EDGELINE_LANES <= count; i += EDGELINE_LANES) {
            const edgeline_vf next = edgeline_load(x + i);
            partial = operation == EDGELINE_REDUCE_SUM   ? partial + next
                      : operation == EDGELINE_REDUCE_MAX ? edgeline_max(partial, next)
                                                         : edgeline_min(partial, next);
        }
        float lanes[EDGELINE_LANES];
        edgeline_store(lanes, partial);
        for (int k = 0; k < EDGELINE_LANES; k++) total = edgeline_joined(operation, total, lanes[k]);
    }
    for (; i < count; i++) total = edgeline_joined(operation, total, x[i * layer->along[5]]);
    return total;
}

EDGELINE_INLINE void edgeline_reduce_one(const edgeline_reduce *layer, const float *x, float *y)
{
    const int *n = layer->counts;
    const ptrdiff_t *s = layer->along;
    float total = layer->operation == EDGELINE_REDUCE_SUM ? 0.0f : *x;
    for (int a = 0; a < n[0]; a++)
        for (int b = 0; b < n[1]; b++)
            for (int c = 0; c < n[2]; c++)
                for (int d = 0; d < n[3]; d++)
                    for (int e = 0; e < n[4]; e++) {
                        const float *line = x + a * s[0] + b * s[1] + c * s[2] + d * s[3] + e * s[4];
                        total = edgeline_reduce_line(layer, line, total);
                    }
    edgeline_scatter(y, 1, edgeline_activate_all(edgeline_all(total * layer->share), layer->activations), 1);
}

EDGELINE_INLINE void edgeline_reduce_f32(const edgeline_reduce *layer, const float *x, float *y, size_t rows)
{
    const int *n = layer->sizes;
    const ptrdiff_t *s = layer->from, *t = layer->to;
    for (ptrdiff_t row = 0; row < (ptrdiff_t)rows; row++)
        for (int a = 0; a < n[0]; a++)
            for (int b = 0; b < n[1]; b++)
                for (int c = 0; c < n[2]; c++)
                    for (int d = 0; d < n[3]; d++)
                        for (int e = 0; e < n[4]; e++)
                            for (int f = 0; f < n[5]; f++)
                                edgeline_reduce_one(layer,
                                                    x + row * layer->from_sample + a * s[0] + b * s[1] + c * s[2] +
                                                        d * s[3] + e * s[4] + f * s[5],
                                                    y + row * layer->to_sample + a * t[0] + b * t[1] + c * t[2] +
                                                        d * t[3] + e * t[4] + f * t[5]);
}
