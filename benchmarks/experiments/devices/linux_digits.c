/* Classifies images from a file, writes the outputs to another one:
 *
 *     linux_digits IMAGES OUTPUTS COUNT
 *
 * Compiled with -DNAME=lenet -DHEADER='"lenet.h"' beside the network. Exit code 0, 3 for an error code of the library,
 * 4 where a file is missing or not whole. What a further image costs is the difference of two counts. */

#include <stdio.h>
#include <stdlib.h>

#include HEADER

#define PASTED(name, what) name##what
#define OF(name, what) PASTED(name, what)

int main(int argc, char **argv)
{
    static unsigned char memory[BYTES + EDGELINE_ARENA_ALIGNMENT];
    static uint8_t image[PIXELS];
    static float output[OUTPUTS];
    unsigned char *arena = memory + (EDGELINE_ARENA_ALIGNMENT - (uintptr_t)memory % EDGELINE_ARENA_ALIGNMENT);
    FILE *images = argc == 4 ? fopen(argv[1], "rb") : NULL, *outputs = argc == 4 ? fopen(argv[2], "wb") : NULL;
    if (images == NULL || outputs == NULL) return 4;
    setvbuf(images, NULL, _IONBF, 0); /* the same calls of the system for each image */
    setvbuf(outputs, NULL, _IONBF, 0);
    for (long left = strtol(argv[3], NULL, 10); left > 0; left--) {
        if (fread(image, sizeof image, 1, images) != 1) return 4;
        if (OF(NAME, _infer_u8)(image, output, 1, arena, BYTES) != EDGELINE_OK) return 3;
        if (fwrite(output, sizeof output, 1, outputs) != 1) return 4;
    }
    fclose(images);
    return fclose(outputs) == 0 ? 0 : 4;
}
