/* The time of each layer, in libraries that are compiled with EDGELINE_PROFILE: where it is asked for, the clock is
 * read between two layers.
 *
 * needs: run */

#ifdef EDGELINE_PROFILE

#include <time.h>

static double edgeline_now_s(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

#define EDGELINE_PROFILE_BEGIN double before_s = run->seconds != NULL ? edgeline_now_s() : 0.0;
#define EDGELINE_PROFILE_STEP(index)                 \
    if (run->seconds != NULL) {                      \
        const double after_s = edgeline_now_s();     \
        run->seconds[index] += after_s - before_s;   \
        before_s = after_s;                          \
    }

#else
#define EDGELINE_PROFILE_BEGIN
#define EDGELINE_PROFILE_STEP(index)
#endif
