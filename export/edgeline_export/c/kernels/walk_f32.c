/* Floats from one layout to another, as walk_u8.c describes them.
 *
 * needs: walk_u8 */

EDGELINE_INLINE void edgeline_move_f32(const edgeline_walk *walk, const float *x, float *y)
{
    const int count = walk->sizes[5];
    const ptrdiff_t s = walk->x[5], t = walk->y[5];
    EDGELINE_WALK(walk, { for (int k = 0; k < count; k++) y[o + k * t] = x[i + k * s]; })
}
