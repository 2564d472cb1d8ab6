/* Classifies three digits with lenet-relu on a microcontroller, then runs the network's self-test.
 *
 * Exit code, by semihosting: 0 all right, 2 a digit was taken for another one, 3 the library returned an error code;
 * others are the self-test's (selftest.c of the artefact). */

#include <stdint.h>

#include "digits.h"
#include "lenet_relu.h"
#include "semihosting.h"

int lenet_relu_selftest(void); /* selftest.c */

/* All the memory that the network works in. It holds nothing between calls. */
static unsigned char arena[LENET_RELU_U8_ARENA_BYTES] __attribute__((aligned(EDGELINE_ARENA_ALIGNMENT)));

static int largest(const float *logits)
{
    int best = 0;
    for (int i = 1; i < 10; i++)
        if (logits[i] > logits[best]) best = i;
    return best;
}

int main(void)
{
    for (int i = 0; i < DIGITS; i++) {
        float logits[10];
        if (lenet_relu_infer_u8(digits[i].pixels, logits, 1, arena, sizeof arena) != EDGELINE_OK) return 3;
        const int found = largest(logits);
        const char text[] = {'a', ' ', (char)('0' + digits[i].label), ' ', 'i', 's', ' ', 'a', ' ',
                             (char)('0' + found), '\n', '\0'};
        semihosting_print(text);
        if (found != digits[i].label) return 2;
    }
    return lenet_relu_selftest();
}
