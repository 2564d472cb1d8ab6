/* The inputs of the self-test of @name@, and what they must give: in flash. */
#ifndef SELFTEST_DATA_H
#define SELFTEST_DATA_H

#include "@name@.h"

typedef @given@ selftest_input;
typedef @made@ selftest_output;

enum { SELFTEST_CALLS = @calls@, SELFTEST_SAMPLES_PER_CALL = @batch@, SELFTEST_OUTPUTS = @outputs@ };
#define SELFTEST_ARENA_BYTES @arena@
#define SELFTEST_INFER @name@_@infer@
@tolerance@

static const selftest_input selftest_inputs[SELFTEST_CALLS][@numbers@] = {
@inputs@
};

/* As they lie in memory: the exact bits. */
static const union {
    @word@ bits[SELFTEST_SAMPLES_PER_CALL * SELFTEST_OUTPUTS];
    selftest_output numbers[SELFTEST_SAMPLES_PER_CALL * SELFTEST_OUTPUTS];
} selftest_expected[SELFTEST_CALLS] = {
@expected@
};

#endif
