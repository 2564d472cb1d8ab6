/* Activations by themselves: float, `count` numbers beside each other. x and y may be one.
 *
 * needs: vector activation_f32 */

typedef struct {
    edgeline_activation activations[EDGELINE_MAX_ACTIVATIONS];
} edgeline_unary;

EDGELINE_INLINE void edgeline_unary_f32(const edgeline_unary *layer, const float *x, float *y, size_t count)
{
    size_t i = 0;
    for (; i + EDGELINE_LANES <= count; i += EDGELINE_LANES)
        edgeline_store(y + i, edgeline_activate_all(edgeline_load(x + i), layer->activations));
    if (i < count) {
        float lanes[EDGELINE_LANES] = {0};
        memcpy(lanes, x + i, (count - i) * sizeof(float));
        edgeline_store(lanes, edgeline_activate_all(edgeline_load(lanes), layer->activations));
        memcpy(y + i, lanes, (count - i) * sizeof(float));
    }
}
