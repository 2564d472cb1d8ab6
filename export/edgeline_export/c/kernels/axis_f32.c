/* Softmax and ArgMax along one axis: float, any layouts by strides.
 *
 * x, y  by `from` and `to` over the other dimensions, by `from_axis` and `to_axis` along the axis
 *
 * needs: vector activation_f32 lanes_f32 */

typedef struct {
    int sizes[EDGELINE_DIMENSIONS]; /* the other dimensions */
    ptrdiff_t to[EDGELINE_DIMENSIONS], from[EDGELINE_DIMENSIONS];
    int count; /* along the axis */
    ptrdiff_t from_axis, to_axis, from_sample, to_sample;
    int select_last_index; /* of equal numbers, for ArgMax */
} edgeline_axis;

/* e^(x - the largest) over their sum: no number is so large that its e^x overflows. */
EDGELINE_INLINE void edgeline_softmax_one(const edgeline_axis *layer, const float *x, float *y)
{
    const ptrdiff_t s = layer->from_axis, t = layer->to_axis;
    const int count = layer->count;
    float largest = x[0], sum = 0.0f;
    for (int i = 1; i < count; i++) largest = x[i * s] > largest ? x[i * s] : largest;
    for (int i = 0; i < count; i += EDGELINE_LANES)
        edgeline_scatter(y + i * t, t, edgeline_exp(edgeline_gather(x + i * s, s, count - i) - edgeline_all(largest)),
                         count - i);
    for (int i = 0; i < count; i++) sum += y[i * t];
    for (int i = 0; i < count; i++) y[i * t] /= sum;
}

EDGELINE_INLINE void edgeline_argmax_one(const edgeline_axis *layer, const float *x, int64_t *y)
{
    float largest = x[0];
    int place = 0;
    for (int i = 1; i < layer->count; i++) {
        const float number = x[i * layer->from_axis];
        if (layer->select_last_index ? number >= largest : number > largest) largest = number, place = i;
    }
    *y = place;
}

EDGELINE_INLINE ptrdiff_t edgeline_axis_place(const ptrdiff_t *s, int a, int b, int c, int d, int e, int f)
{
    return a * s[0] + b * s[1] + c * s[2] + d * s[3] + e * s[4] + f * s[5];
}

EDGELINE_INLINE void edgeline_softmax_f32(const edgeline_axis *layer, const float *x, float *y, size_t rows)
{
    const int *n = layer->sizes;
    for (ptrdiff_t row = 0; row < (ptrdiff_t)rows; row++)
        for (int a = 0; a < n[0]; a++)
            for (int b = 0; b < n[1]; b++)
                for (int c = 0; c < n[2]; c++)
                    for (int d = 0; d < n[3]; d++)
                        for (int e = 0; e < n[4]; e++)
                            for (int f = 0; f < n[5]; f++) {
                                const ptrdiff_t from = edgeline_axis_place(layer->from, a, b, c, d, e, f);
                                const ptrdiff_t to = edgeline_axis_place(layer->to, a, b, c, d, e, f);
                                edgeline_softmax_one(layer, x + row * layer->from_sample + from,
                                                 y + row * layer->to_sample + to);
                            }
}

EDGELINE_INLINE void edgeline_argmax_f32(const edgeline_axis *layer, const float *x, int64_t *y, size_t rows)
{
    const int *n = layer->sizes;
    for (ptrdiff_t row = 0; row < (ptrdiff_t)rows; row++)
        for (int a = 0; a < n[0]; a++)
            for (int b = 0; b < n[1]; b++)
                for (int c = 0; c < n[2]; c++)
                    for (int d = 0; d < n[3]; d++)
                        for (int e = 0; e < n[4]; e++)
                            for (int f = 0; f < n[5]; f++) {
                                const ptrdiff_t from = edgeline_axis_place(layer->from, a, b, c, d, e, f);
                                const ptrdiff_t to = edgeline_axis_place(layer->to, a, b, c, d, e, f);
                                edgeline_argmax_one(layer, x + row * layer->from_sample + from,
                                                 y + row * layer->to_sample + to);
                            }
}
