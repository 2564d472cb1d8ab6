/* Arithmetic of operands at the same place, and the activations behind it: float, any layouts by strides.
 *
 * p, q, r  the operands; those that `operation` does not use are p again. A stride of 0 repeats a number: broadcasting
 * y        may not overlap an operand
 *
 * needs: vector activation_f32 lanes_f32 */

enum {
    EDGELINE_NO_ARITHMETIC, /* p */
    EDGELINE_ADD,
    EDGELINE_SUB,
    EDGELINE_MUL,
    EDGELINE_DIV,
    EDGELINE_MIN,
    EDGELINE_MAX,
    EDGELINE_POW,
    EDGELINE_PRELU, /* p, times q where it is negative */
    EDGELINE_AFFINE /* q * p + r */
};
enum { EDGELINE_OPERANDS = 3 };

typedef struct {
    int operation;
    int sizes[EDGELINE_DIMENSIONS];
    ptrdiff_t to[EDGELINE_DIMENSIONS], from[EDGELINE_OPERANDS][EDGELINE_DIMENSIONS]; /* strides, in numbers */
    ptrdiff_t samples[EDGELINE_OPERANDS], to_sample;                                 /* from one sample to the next */
    edgeline_activation activations[EDGELINE_MAX_ACTIVATIONS];
} edgeline_elementwise;

EDGELINE_INLINE edgeline_vf edgeline_power(edgeline_vf p, edgeline_vf q)
{
    float base[EDGELINE_LANES], exponent[EDGELINE_LANES];
    edgeline_store(base, p);
    edgeline_store(exponent, q);
    for (int i = 0; i < EDGELINE_LANES; i++) base[i] = powf(base[i], exponent[i]);
    return edgeline_load(base);
}

EDGELINE_INLINE edgeline_vf edgeline_arithmetic(int operation, edgeline_vf p, edgeline_vf q, edgeline_vf r)
{
    const edgeline_vf zero = edgeline_all(0.0f);
    switch (operation) {
    case EDGELINE_ADD: return p + q;
    case EDGELINE_SUB: return p - q;
    case EDGELINE_MUL: return p * q;
    case EDGELINE_DIV: return p / q;
    case EDGELINE_MIN: return edgeline_min(p, q);
    case EDGELINE_MAX: return edgeline_max(p, q);
    case EDGELINE_POW: return edgeline_power(p, q);
    case EDGELINE_PRELU: return edgeline_max(p, zero) + edgeline_min(p, zero) * q;
    case EDGELINE_AFFINE: return q * p + r;
    default: return p;
    }
}

EDGELINE_INLINE void edgeline_elementwise_vector(const edgeline_elementwise *layer, const float *p, const float *q,
                                                 const float *r, float *y, int count)
{
    const edgeline_vf v = edgeline_arithmetic(layer->operation, edgeline_gather(p, layer->from[0][5], count),
                                              edgeline_gather(q, layer->from[1][5], count),
                                              edgeline_gather(r, layer->from[2][5], count));
    edgeline_scatter(y, layer->to[5], edgeline_activate_all(v, layer->activations), count);
}

/* The innermost loop. */
EDGELINE_INLINE void edgeline_elementwise_run(const edgeline_elementwise *layer, const float *p, const float *q,
                                              const float *r, float *y)
{
    const ptrdiff_t i = layer->from[0][5], j = layer->from[1][5], k = layer->from[2][5], to = layer->to[5];
    const int count = layer->sizes[5];
    int at = 0;
    for (; at + EDGELINE_LANES <= count; at += EDGELINE_LANES)
        edgeline_elementwise_vector(layer, p + at * i, q + at * j, r + at * k, y + at * to, EDGELINE_LANES);
    if (at < count) edgeline_elementwise_vector(layer, p + at * i, q + at * j, r + at * k, y + at * to, count - at);
}

/* Where number a, b, c, d, e of the outer loops begins. */
EDGELINE_INLINE ptrdiff_t edgeline_outer(const ptrdiff_t *s, int a, int b, int c, int d, int e)
{
    return a * s[0] + b * s[1] + c * s[2] + d * s[3] + e * s[4];
}

EDGELINE_INLINE void edgeline_elementwise_f32(const edgeline_elementwise *layer, const float *p, const float *q,
                                              const float *r, float *y, size_t rows)
{
    const int *n = layer->sizes;
    for (size_t row = 0; row < rows; row++) {
        const float *first = p + (ptrdiff_t)row * layer->samples[0], *second = q + (ptrdiff_t)row * layer->samples[1];
        const float *third = r + (ptrdiff_t)row * layer->samples[2];
        float *to = y + (ptrdiff_t)row * layer->to_sample;
        for (int a = 0; a < n[0]; a++)
            for (int b = 0; b < n[1]; b++)
                for (int c = 0; c < n[2]; c++)
                    for (int d = 0; d < n[3]; d++)
                        for (int e = 0; e < n[4]; e++)
                            edgeline_elementwise_run(layer, first + edgeline_outer(layer->from[0], a, b, c, d, e),
                                                     second + edgeline_outer(layer->from[1], a, b, c, d, e),
                                                     third + edgeline_outer(layer->from[2], a, b, c, d, e),
                                                     to + edgeline_outer(layer->to, a, b, c, d, e));
    }
}
