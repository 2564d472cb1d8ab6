/* What happens to a number on its way into memory: the activations that follow a layer, in order.
 *
 * needs: vector */

enum {
    EDGELINE_IDENTITY,
    EDGELINE_RELU,
    EDGELINE_LEAKY_RELU,   /* a: alpha */
    EDGELINE_CLIP,         /* a: min, b: max */
    EDGELINE_SCALE,        /* a * x + b */
    EDGELINE_SIGMOID,
    EDGELINE_TANH,
    EDGELINE_HARD_SIGMOID, /* max(0, min(1, a * x + b)) */
    EDGELINE_HARD_SWISH,
    EDGELINE_ELU,    /* x, a * (e^x - 1) where it is negative */
    EDGELINE_EXP,
    EDGELINE_SQRT,
    EDGELINE_SQUARE,
    EDGELINE_ABS
};

enum { EDGELINE_MAX_ACTIVATIONS = 4 };

typedef struct {
    int kind;
    float a, b;
} edgeline_activation;

/* exp(x), relative error below 3e-7, for |x| <= 80: beyond it stays at the end of that range. */
EDGELINE_INLINE edgeline_vf edgeline_exp(edgeline_vf x)
{
    /* Cody and Waite: 2^r * e^f with r whole and |f| <= ln(2) / 2; ln(2) in two parts, so that f is exact. */
    const edgeline_vf shift = edgeline_all(12582912.0f); /* 1.5 * 2^23: adding it rounds to a whole number */
    x = edgeline_max(edgeline_min(x, edgeline_all(80.0f)), edgeline_all(-80.0f));
    const edgeline_vf whole = x * edgeline_all(1.44269504f) + shift;
    const edgeline_vf r = whole - shift;
    const edgeline_vf f = x - r * edgeline_all(0.693359375f) - r * edgeline_all(-2.12194440e-4f);
    /* Taylor's terms, the last two moved to even the error out over the interval. */
    edgeline_vf e = edgeline_all(1.3981999507e-3f);
    e = e * f + edgeline_all(8.3334519073e-3f);
    e = e * f + edgeline_all(4.1665795894e-2f);
    e = e * f + edgeline_all(1.6666665459e-1f);
    e = e * f + edgeline_all(5.0000001201e-1f);
    e = e * f + edgeline_all(1.0f);
    e = e * f + edgeline_all(1.0f);
    return edgeline_times_power_of_2(e, whole);
}

/* 1 + exp(-x), for sums and quotients in which an error of 2e-7 of the whole is rounding: the argument is reduced in
 * one step, so that far from 0 the exponential itself is off by 2e-6. -87 <= x; above 87 it is 1. */
EDGELINE_INLINE edgeline_vf edgeline_one_plus_exp_minus(edgeline_vf x)
{
    const edgeline_vf shift = edgeline_all(12582912.0f), log2e = edgeline_all(-1.44269504f);
    x = edgeline_min(x, edgeline_all(87.0f));
    const edgeline_vf whole = x * log2e + shift;
    const edgeline_vf f = x * log2e - (whole - shift);
    /* 2^f on [-1/2, 1/2], minimax. */
    edgeline_vf e = edgeline_all(1.3398874e-3f);
    e = e * f + edgeline_all(9.6184373e-3f);
    e = e * f + edgeline_all(5.5503325e-2f);
    e = e * f + edgeline_all(2.4022648e-1f);
    e = e * f + edgeline_all(6.9314720e-1f);
    e = e * f + edgeline_all(1.0f);
    return edgeline_all(1.0f) + edgeline_times_power_of_2(e, whole);
}

EDGELINE_INLINE edgeline_vf edgeline_sigmoid(edgeline_vf x)
{
    return edgeline_all(1.0f) / edgeline_one_plus_exp_minus(edgeline_max(x, edgeline_all(-87.0f)));
}

/* Over the whole range of floats, number by number. */
EDGELINE_INLINE edgeline_vf edgeline_by_libm(edgeline_vf x, float (*function)(float))
{
    float lanes[EDGELINE_LANES];
    edgeline_store(lanes, x);
    for (int i = 0; i < EDGELINE_LANES; i++) lanes[i] = function(lanes[i]);
    return edgeline_load(lanes);
}

EDGELINE_INLINE edgeline_vf edgeline_activate(edgeline_vf x, const edgeline_activation *activation)
{
    const edgeline_vf zero = edgeline_all(0.0f), one = edgeline_all(1.0f);
    const edgeline_vf a = edgeline_all(activation->a), b = edgeline_all(activation->b);
    switch (activation->kind) {
    case EDGELINE_RELU: return edgeline_max(x, zero);
    case EDGELINE_LEAKY_RELU: return edgeline_max(x, zero) + edgeline_min(x, zero) * a;
    case EDGELINE_CLIP: return edgeline_min(edgeline_max(x, a), b);
    case EDGELINE_SCALE: return a * x + b;
    case EDGELINE_SIGMOID: return edgeline_sigmoid(x);
    case EDGELINE_HARD_SIGMOID: return edgeline_max(zero, edgeline_min(one, a * x + b));
    case EDGELINE_HARD_SWISH:
        return x * edgeline_max(zero, edgeline_min(one, x * edgeline_all(1.0f / 6.0f) + edgeline_all(0.5f)));
    case EDGELINE_ELU: return edgeline_max(x, zero) + a * (edgeline_exp(edgeline_min(x, zero)) - one);
    case EDGELINE_EXP: return edgeline_by_libm(x, expf);
    case EDGELINE_SQRT: return edgeline_by_libm(x, sqrtf);
    case EDGELINE_SQUARE: return x * x;
    case EDGELINE_ABS: return edgeline_max(x, -x);
    case EDGELINE_TANH: {
        /* Near 0, where 1 - 2 / (1 + e^2x) cancels, the odd polynomial of Cephes' tanhf; relative error below 2e-7. */
        const edgeline_vf square = x * x, magnitude = edgeline_max(x, -x);
        edgeline_vf small = edgeline_all(-5.70498872745e-3f);
        small = small * square + edgeline_all(2.06390887954e-2f);
        small = small * square + edgeline_all(-5.37397155531e-2f);
        small = small * square + edgeline_all(1.33314422036e-1f);
        small = small * square + edgeline_all(-3.33332819422e-1f);
        small = small * square * x + x;
        const edgeline_vf twice = edgeline_min(edgeline_max(x + x, edgeline_all(-20.0f)), edgeline_all(20.0f));
        const edgeline_vf large = one - edgeline_all(2.0f) / edgeline_one_plus_exp_minus(-twice);
        return edgeline_where(magnitude < edgeline_all(0.625f), small, large);
    }
    default: return x;
    }
}

EDGELINE_INLINE edgeline_vf edgeline_activate_all(edgeline_vf x, const edgeline_activation *activations)
{
    EDGELINE_UNROLL
    for (int i = 0; i < EDGELINE_MAX_ACTIVATIONS; i++) x = edgeline_activate(x, &activations[i]);
    return x;
}

/* Whether exponentials are among them: these are worth another trip through the nearest cache. */
EDGELINE_INLINE int edgeline_has_exponential(const edgeline_activation *activations)
{
    int found = 0;
    EDGELINE_UNROLL
    for (int i = 0; i < EDGELINE_MAX_ACTIVATIONS; i++)
        found |= activations[i].kind == EDGELINE_SIGMOID || activations[i].kind == EDGELINE_TANH;
    return found;
}
