/* Times a C inference function without Python: loads a shared library, warms it up, calls it, and keeps the times.
 *
 *     native_clock LIBRARY NAME N INPUTS OUTPUTS IN OUT
 *
 * LIBRARY has    size_t NAME_arena_bytes(size_t n);
 *                int NAME_infer(const float *input, float *logits, size_t n, void *arena, size_t arena_bytes);
 * N              samples of a batch
 * INPUTS OUTPUTS floats of a whole batch, in and out
 * IN OUT         files of raw floats: the batch, and where the first call's result goes
 *
 * It writes a line of JSON when it has made the first call, and one for each order on stdin, which is a line with the
 * seconds to measure:
 *
 *     {"arena_bytes": 1, "first_s": 1e-3, "clock_overhead_s": 2e-8}
 *     {"samples_s": [...], "calls": 1, "calls_per_sample": 1, "elapsed_s": 1.0, "warmup_calls": 1}
 *
 * or {"error": "...", "code": 1} and exit code 1. A sample is the time of one call where that is at least 100 times
 * what reading the clock costs; of faster calls as many as fill that time are timed together and the sample is their
 * mean, so that the clock is at most 1 % of any sample. It does not pin, does not set threads (the library does), and
 * computes nothing but the median that ends the warm-up. Needs POSIX.1-2008, libdl and 8 bytes per sample. */

#define _POSIX_C_SOURCE 200809L
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { MAX_SAMPLES = 2000, MAX_BLOCK = 2000, OVERHEAD_CALLS = 1000, ARENA_ALIGNMENT = 64 };
static const double STABLE = 0.03, BLOCK_S = 0.02, MAX_WARMUP_SHARE = 0.5; /* as edgeline_bench/clock.py */
static const double MIN_CLOCKS_PER_SAMPLE = 100.0;

typedef size_t (*arena_bytes_fn)(size_t);
typedef int (*infer_fn)(const float *, float *, size_t, void *, size_t);

typedef struct {
    infer_fn infer;
    const float *input;
    float *output;
    size_t n;
    void *arena;
    size_t arena_bytes;
} engine;

static void fail(const char *what, const char *detail, int code) {
    printf("{\"error\": \"");
    for (const char *text[2] = {what, detail}, **t = text; t < text + 2; t++)
        for (const char *c = *t; *c; c++) {
            if (*c == '"' || *c == '\\') putchar('\\');
            putchar((unsigned char)*c < ' ' ? ' ' : *c);
        }
    printf("\", \"code\": %d}\n", code);
    fflush(stdout);
    exit(1);
}

static double now_s(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void call(const engine *e) {
    int code = e->infer(e->input, e->output, e->n, e->arena, e->arena_bytes);
    if (code != 0) fail("infer returned an error code", "", code);
}

static int compare(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *values, size_t count) {
    qsort(values, count, sizeof *values, compare);
    return count % 2 ? values[count / 2] : 0.5 * (values[count / 2 - 1] + values[count / 2]);
}

/* What reading the clock adds to a sample: half of it lies before the call, half after, together one reading. */
static double clock_overhead_s(void) {
    static double samples[OVERHEAD_CALLS];
    for (size_t i = 0; i < OVERHEAD_CALLS; i++) {
        double before = now_s();
        for (int k = 0; k < 10; k++) (void)now_s(); /* ten, as one may be below the clock's step */
        samples[i] = (now_s() - before) / 11;
    }
    return median(samples, OVERHEAD_CALLS);
}

static double magnitude(double x) { return x < 0 ? -x : x; }

/* Calls in blocks until two in a row agree or the time is up; returns the calls made, and the seconds per call. */
static size_t warm_up(const engine *e, double limit_s, double *call_s) {
    static double block[MAX_BLOCK];
    double end = now_s() + limit_s, previous = 0;
    size_t calls = 0;
    for (;;) {
        size_t count = 0;
        double block_end = now_s() + BLOCK_S;
        while (count == 0 || (count < MAX_BLOCK && now_s() < block_end)) {
            double before = now_s();
            call(e);
            block[count++] = now_s() - before;
        }
        calls += count;
        *call_s = median(block, count);
        if (magnitude(*call_s - previous) <= STABLE * *call_s || now_s() >= end) return calls;
        previous = *call_s;
    }
}

/* Of more than MAX_SAMPLES samples every k-th is kept, k being fixed beforehand: none is picked by its time. */
static void measure(const engine *e, double seconds, double overhead_s) {
    static double samples[2 * MAX_SAMPLES];
    double call_s, shortest = MIN_CLOCKS_PER_SAMPLE * overhead_s;
    size_t warmup_calls = warm_up(e, seconds * MAX_WARMUP_SHARE, &call_s);
    if (call_s < overhead_s) call_s = overhead_s;
    size_t per_sample = call_s >= shortest ? 1 : (size_t)(shortest / call_s) + 1;
    size_t every = (size_t)(seconds / (call_s * (double)per_sample) / MAX_SAMPLES) + 1;
    size_t taken = 0, kept = 0;
    double started = now_s(), after = started;
    do {
        double before = now_s();
        for (size_t i = 0; i < per_sample; i++) call(e);
        after = now_s();
        if (taken++ % every == 0 && kept < 2 * MAX_SAMPLES) samples[kept++] = (after - before) / (double)per_sample;
    } while (after - started < seconds);
    printf("{\"samples_s\": [");
    for (size_t i = 0; i < kept; i++) printf("%s%.9g", i ? ", " : "", samples[i]);
    printf("], \"calls\": %zu, \"calls_per_sample\": %zu, \"elapsed_s\": %.9f, \"warmup_calls\": %zu}\n",
           taken * per_sample, per_sample, after - started, warmup_calls);
    fflush(stdout);
}

static void *symbol(void *library, const char *name, const char *suffix) {
    char full[512];
    if ((size_t)snprintf(full, sizeof full, "%s%s", name, suffix) >= sizeof full) fail("the name is too long: ", name, 0);
    void *found = dlsym(library, full);
    if (!found) fail("the library has no function ", full, 0);
    return found;
}

static float *floats(size_t count, const char *what) {
    float *memory = calloc(count ? count : 1, sizeof(float));
    if (!memory) fail("there is not enough memory for the ", what, 0);
    return memory;
}

int main(int argc, char **argv) {
    if (argc != 8) fail("expected LIBRARY NAME N INPUTS OUTPUTS IN OUT", "", 0);
    void *library = dlopen(argv[1], RTLD_NOW | RTLD_LOCAL);
    if (!library) fail("", dlerror(), 0);
    engine e = {.n = strtoull(argv[3], NULL, 10)};
    size_t inputs = strtoull(argv[4], NULL, 10), outputs = strtoull(argv[5], NULL, 10);
    arena_bytes_fn arena_bytes;
    *(void **)&e.infer = symbol(library, argv[2], "_infer"); /* as POSIX's dlsym page does it */
    *(void **)&arena_bytes = symbol(library, argv[2], "_arena_bytes");
    float *input = floats(inputs, "input");
    FILE *in = fopen(argv[6], "rb");
    if (!in || fread(input, sizeof(float), inputs, in) != inputs) fail("the input cannot be read: ", argv[6], 0);
    fclose(in);
    e.input = input;
    e.output = floats(outputs, "output");
    e.arena_bytes = arena_bytes(e.n);
    if (posix_memalign(&e.arena, ARENA_ALIGNMENT, e.arena_bytes ? e.arena_bytes : 1))
        fail("there is not enough memory for the ", "arena", 0);
    double started = now_s();
    call(&e);
    double first_s = now_s() - started, overhead_s = clock_overhead_s();
    FILE *out = fopen(argv[7], "wb");
    int written = out && fwrite(e.output, sizeof(float), outputs, out) == outputs;
    if ((out && fclose(out)) || !written) fail("the output cannot be written: ", argv[7], 0);
    printf("{\"arena_bytes\": %zu, \"first_s\": %.9f, \"clock_overhead_s\": %.12f}\n", e.arena_bytes, first_s, overhead_s);
    fflush(stdout);
    char line[64];
    while (fgets(line, sizeof line, stdin)) measure(&e, strtod(line, NULL), overhead_s);
    return 0;
}
