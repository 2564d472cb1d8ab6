/* Brings sums onto grids with the kernel rounded_u8.c: reads and writes records of 32-bit numbers.
 *
 * In: sum, bits of the factor, low, high, zero point. Out: the number. */
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#define EDGELINE_BLOCK 16
#define EDGELINE_DOT_BLOCK 1
#define EDGELINE_DOT_OFFSET 0
#include "vector.c"
#include "grid.c"
#include "dot_u8s8.c"
#include "rounded_u8.c"

int main(void)
{
    int32_t record[5];
    while (fread(record, sizeof record, 1, stdin) == 1) {
        float factor;
        memcpy(&factor, &record[1], sizeof factor);
        const edgeline_grid grid = {.low = record[2], .high = record[3], .zero_point = record[4]};
        const int32_t n = edgeline_rounded(record[0], factor, &grid);
        if (fwrite(&n, sizeof n, 1, stdout) != 1) return 1;
    }
    return 0;
}
