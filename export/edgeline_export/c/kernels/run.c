/* What a layer works on: a block of samples, the sample of it that is being computed, the arena. */

struct edgeline_threads;

typedef struct {
    const unsigned char *input, *sample;
    unsigned char *output;
    unsigned char *arena;
    size_t row, rows;
    struct edgeline_threads *pool; /* threads for the large layers; NULL: the caller's alone */
    double *seconds;     /* of each layer, added up; NULL: not timed */
} edgeline_run;

/* A layer: all of it with parts = 1, else the part `part` of so many, which may be computed at once. */
typedef void edgeline_step(const edgeline_run *run, int part, int parts);
