/* Numbers moved from one layout to another: float, up to six dimensions by strides, the last one innermost.
 *
 * needs: vector */

enum { EDGELINE_COPY_DIMENSIONS = 6 };

typedef struct {
    int sizes[EDGELINE_COPY_DIMENSIONS];
    ptrdiff_t from[EDGELINE_COPY_DIMENSIONS], to[EDGELINE_COPY_DIMENSIONS]; /* strides, in numbers */
} edgeline_copy;

EDGELINE_INLINE void edgeline_copy_f32(const edgeline_copy *layout, const float *x, float *y)
{
    const int *n = layout->sizes;
    const ptrdiff_t *s = layout->from, *t = layout->to;
    for (int a = 0; a < n[0]; a++)
        for (int b = 0; b < n[1]; b++)
            for (int c = 0; c < n[2]; c++)
                for (int d = 0; d < n[3]; d++)
                    for (int e = 0; e < n[4]; e++) {
                        const float *from = x + a * s[0] + b * s[1] + c * s[2] + d * s[3] + e * s[4];
                        float *to = y + a * t[0] + b * t[1] + c * t[2] + d * t[3] + e * t[4];
                        for (int f = 0; f < n[5]; f++) to[f * t[5]] = from[f * s[5]];
                    }
}
