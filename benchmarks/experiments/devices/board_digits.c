/* Classifies images from a file of the host on a board, writes the outputs to another one, and counts one call.
 *
 * Stands in the place of the artefact's selftest.c, which it contains for its counters (artefact_selftest.c). Exit code
 * 0, 3 for an error code of the library, 4 where a file is missing or not whole. */

#define SELFTEST_WITHOUT_MAIN
#include "artefact_selftest.c"

static selftest_input image[sizeof selftest_inputs[0] / sizeof selftest_inputs[0][0]];

int main(void)
{
    const int pixels = semihosting_open("images.bin", SEMIHOSTING_READ);
    const int logits = semihosting_open("outputs.bin", SEMIHOSTING_WRITE);
    uint32_t images = 0;
    if (pixels < 0 || logits < 0) return 4;
    for (size_t left; (left = semihosting_read(pixels, image, sizeof image)) != sizeof image; images++) {
        if (left != 0) return 4;
        const int code = SELFTEST_INFER(image, output, SELFTEST_SAMPLES_PER_CALL, arena, sizeof arena);
        if (code != EDGELINE_OK) return 3;
        if (semihosting_write(logits, output, sizeof output) != 0) return 4;
    }
    if (semihosting_close(logits) != 0) return 4;
    uint32_t stack = 0;
    if (painted_call(selftest_inputs[0], &stack) != EDGELINE_OK) return 3;
    const struct ticks empty = ticks_of(nothing, image);
    const struct ticks ticks = ticks_of(SELFTEST_INFER, selftest_inputs[0]);
    print_figure("passed: ", images);
    print_figure("stack: ", stack);
    print_figure("wraps: ", ticks.wraps);
    print_figure("ticks: ", ticks.rest);
    print_figure("empty: ", empty.rest);
    return 0;
}
