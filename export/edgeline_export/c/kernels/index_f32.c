/* Pad by numbers of the input: float, each place along each dimension by a table.
 *
 * table  for each dimension in turn, where the numbers for its places lie in x; entries add up
 * y      [sizes] in its own order of memory, by `to`
 *
 * needs: vector lanes_f32 */

typedef struct {
    int sizes[EDGELINE_DIMENSIONS];
    ptrdiff_t to[EDGELINE_DIMENSIONS];
} edgeline_index;

EDGELINE_INLINE void edgeline_index_f32(const edgeline_index *layer, const float *x, const int32_t *table, float *y)
{
    const int *n = layer->sizes;
    const int32_t *t[EDGELINE_DIMENSIONS];
    t[0] = table;
    for (int i = 1; i < EDGELINE_DIMENSIONS; i++) t[i] = t[i - 1] + n[i - 1];
    for (int a = 0; a < n[0]; a++)
        for (int b = 0; b < n[1]; b++)
            for (int c = 0; c < n[2]; c++)
                for (int d = 0; d < n[3]; d++)
                    for (int e = 0; e < n[4]; e++) {
                        const ptrdiff_t from = (ptrdiff_t)t[0][a] + t[1][b] + t[2][c] + t[3][d] + t[4][e];
                        float *to = y + a * layer->to[0] + b * layer->to[1] + c * layer->to[2] + d * layer->to[3] +
                                    e * layer->to[4];
                        for (int f = 0; f < n[5]; f++) to[f * layer->to[5]] = x[from + t[5][f]];
                    }
}
