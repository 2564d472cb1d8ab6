/* Runs the self-test of @name@ and classifies its inputs: does this machine compute what the exporter verified?
 *
 *     cc -O3 main.c @name@.c -lm -o ../selftest && ../selftest
 *
 * selftest.bin (another path: the argument) holds, for each call, its inputs and the outputs that they must give, as
 * @given@ and @made@ in little-endian order. Exit code 0: all outputs are within the tolerance, 1: one is not,
 * 2: there is no such file, or it is not whole; 3: the library returned an error code. */

#include <stdio.h>

#include "@name@.h"

enum { CALLS = @calls@, SAMPLES_PER_CALL = @batch@, INPUTS = @inputs@, OUTPUTS = @outputs@ }; /* numbers per sample */

static const double TOLERANCE = @tolerance@;
@labels@
static @given@ input[SAMPLES_PER_CALL * INPUTS];
static @made@ expected[SAMPLES_PER_CALL * OUTPUTS], output[SAMPLES_PER_CALL * OUTPUTS];
static unsigned char memory[@NAME@_ARENA_BYTES + EDGELINE_ARENA_ALIGNMENT];

static int largest(const @made@ *numbers)
{
    int best = 0;
    for (int i = 1; i < OUTPUTS; i++)
        if (numbers[i] > numbers[best]) best = i;
    return best;
}

int main(int argc, char **argv)
{
    const char *path = argc > 1 ? argv[1] : "selftest.bin";
    unsigned char *arena = memory + (EDGELINE_ARENA_ALIGNMENT - (uintptr_t)memory % EDGELINE_ARENA_ALIGNMENT);
    double worst = 0.0;
    int sample = 0, wrong = 0, first = 0;
    @made@ found_first = 0, expected_first = 0;
    FILE *file = fopen(path, "rb");
    if (file == NULL) {
        fprintf(stderr, "%s cannot be read: run this beside selftest.bin, or name it\n", path);
        return 2;
    }
    for (int call = 0; call < CALLS; call++) {
        if (fread(input, sizeof input, 1, file) != 1 || fread(expected, sizeof expected, 1, file) != 1) {
            fprintf(stderr, "%s is not whole\n", path);
            fclose(file);
            return 2;
        }
        const int code = @name@_infer(input, output, SAMPLES_PER_CALL, arena, @NAME@_ARENA_BYTES);
        if (code != EDGELINE_OK) {
            fprintf(stderr, "@name@_infer returned %d\n", code);
            fclose(file);
            return 3;
        }
        for (int i = 0; i < SAMPLES_PER_CALL * OUTPUTS; i++) {
            const double difference = (double)output[i] - (double)expected[i];
            const double size = difference < 0.0 ? -difference : difference;
            if (size > worst) worst = size;
            if (size <= TOLERANCE) continue;
            if (wrong++ > 0) continue; /* NaN is wrong, too */
            first = call * SAMPLES_PER_CALL * OUTPUTS + i;
            found_first = output[i];
            expected_first = expected[i];
        }
        for (int i = 0; i < SAMPLES_PER_CALL; i++, sample++) {
            const int found = largest(output + i * OUTPUTS);
            printf("input %d: @found@\n", sample, @word@);
        }
    }
    fclose(file);
    printf("largest difference %.2g, allowed %.2g (%s)\n", worst, TOLERANCE, @name@_isa());
    if (wrong > 0)
        fprintf(stderr, "output %d of input %d is %.9g, expected %.9g; %d outputs are further off than allowed\n",
                first % OUTPUTS, first / OUTPUTS, (double)found_first, (double)expected_first, wrong);
    return wrong > 0 ? 1 : 0;
}
