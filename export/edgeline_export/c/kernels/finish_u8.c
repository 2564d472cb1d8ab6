/* What happens to the sums of an integer layer: brought onto a grid, looked up in a table, pooled.
 *
 * needs: dot_u8s8 */

enum { EDGELINE_POOL_NONE, EDGELINE_POOL_MAX, EDGELINE_POOL_AVERAGE };

typedef struct {
    edgeline_grid grid;
    int has_table;
    int pool, pool_rows, pool_columns; /* windows that lie beside each other; 1 and 1 without pooling */
    int inner_zero;                    /* the average's: the zero point of what it adds up, its factor, its grid */
    float pool_factor;
    edgeline_grid pool_grid;
} edgeline_finish;

/* The sums of one window, `count` of them, become one number. The largest is taken first: all that follows keeps the
 * order. The average is taken of finished numbers. */
EDGELINE_INLINE edgeline_sums edgeline_finished(const edgeline_finish *finish, const uint8_t *table,
                                                edgeline_factors factor, const edgeline_sums *window, const int count)
{
    if (finish->pool != EDGELINE_POOL_AVERAGE) {
        edgeline_sums sum = window[0];
        EDGELINE_UNROLL
        for (int i = 1; i < count; i++) sum = edgeline_sums_max(sum, window[i]);
        sum = edgeline_onto(edgeline_times(sum, factor), &finish->grid);
        return finish->has_table ? edgeline_looked_up_one(sum, table) : sum;
    }
    edgeline_sums total = edgeline_sums_all(-count * finish->inner_zero);
    EDGELINE_UNROLL
    for (int i = 0; i < count; i += 4) {
        const int few = count - i < 4 ? count - i : 4;
        edgeline_sums four = edgeline_onto(edgeline_times(window[i], factor), &finish->grid);
        EDGELINE_UNROLL
        for (int k = 1; k < few; k++)
            four = edgeline_with_byte(four, edgeline_onto(edgeline_times(window[i + k], factor), &finish->grid), k);
        if (finish->has_table) four = edgeline_looked_up(four, table);
        total = edgeline_add_bytes(total, four, few);
    }
    return edgeline_onto(edgeline_times(total, edgeline_factors_all(finish->pool_factor)), &finish->pool_grid);
}
