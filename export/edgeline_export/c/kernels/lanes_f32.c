/* Vectors of numbers that lie a stride apart, and parts of a vector.
 *
 * needs: vector */

enum { EDGELINE_DIMENSIONS = 6 }; /* of a nest of loops, the innermost last */

/* The first `count` numbers, or a whole vector of them; lanes beyond are 0. A stride of 0 repeats one number. */
EDGELINE_INLINE edgeline_vf edgeline_gather(const float *from, ptrdiff_t stride, int count)
{
    if (stride == 0) return edgeline_all(*from);
    if (stride == 1 && count >= EDGELINE_LANES) return edgeline_load(from);
    float lanes[EDGELINE_LANES] = {0};
    for (int i = 0; i < EDGELINE_LANES && i < count; i++) lanes[i] = from[i * stride];
    return edgeline_load(lanes);
}

EDGELINE_INLINE void edgeline_scatter(float *to, ptrdiff_t stride, edgeline_vf v, int count)
{
    if (stride == 1 && count >= EDGELINE_LANES) {
        edgeline_store(to, v);
        return;
    }
    float lanes[EDGELINE_LANES];
    edgeline_store(lanes, v);
    for (int i = 0; i < EDGELINE_LANES && i < count; i++) to[i * stride] = lanes[i];
}
