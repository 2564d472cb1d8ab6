/* classify IMAGE.pgm...: prints what the network takes each image for.
 *
 * Exit code 0: done, 2: an image cannot be used, 3: the network does not run on this CPU. */

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "network.h"
#include "pgm.h"

/* All memory of the network. Nothing is kept in it from one call to the next. */
static _Alignas(EDGELINE_ARENA_ALIGNMENT) unsigned char arena[NETWORK_ARENA_BYTES];
static uint8_t pixels[NETWORK_HEIGHT * NETWORK_WIDTH];
static float outputs[NETWORK_OUTPUTS];

static int largest(const float *numbers)
{
    int best = 0;
    for (int i = 1; i < NETWORK_OUTPUTS; i++)
        if (numbers[i] > numbers[best]) best = i;
    return best;
}

static int read_image(const char *path)
{
    char why[160];
    FILE *file = fopen(path, "rb");
    if (file == NULL) {
        fprintf(stderr, "classify: %s: %s\n", path, strerror(errno));
        return -1;
    }
    const int code = pgm_read(file, NETWORK_HEIGHT, NETWORK_WIDTH, pixels, why, sizeof why);
    fclose(file);
    if (code != 0) fprintf(stderr, "classify: %s: %s\n", path, why);
    return code;
}

int main(int argc, char **argv)
{
    if (argc < 2) {
        fprintf(stderr, "usage: classify IMAGE.pgm...  (%s, %d x %d)\n", NETWORK_NAME, NETWORK_WIDTH, NETWORK_HEIGHT);
        return 2;
    }
    for (int i = 1; i < argc; i++) {
        if (read_image(argv[i]) != 0) return 2;
        const int code = network_infer_u8(pixels, outputs, 1, arena, sizeof arena);
        if (code != EDGELINE_OK) {
            const char *what = code == EDGELINE_ECPU ? "this CPU lacks the instructions it was compiled for"
                               : code == EDGELINE_EBATCH ? "it takes no single image: export it with a free batch"
                                                         : "an error code of " NETWORK_NAME ".h";
            fprintf(stderr, "classify: %s returned %d: %s\n", NETWORK_NAME, code, what);
            return 3;
        }
        const int found = largest(outputs);
#ifdef NETWORK_LABELS
        static const char *const labels[NETWORK_OUTPUTS] = NETWORK_LABELS;
        printf("%s: %s\n", argv[i], labels[found]);
#else
        printf("%s: class %d\n", argv[i], found);
#endif
    }
    return 0;
}
