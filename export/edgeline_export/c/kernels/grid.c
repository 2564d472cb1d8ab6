/* The numbers that a result may be, and the one that stands for 0. */

typedef struct {
    int low, high, zero_point;
} edgeline_grid;
