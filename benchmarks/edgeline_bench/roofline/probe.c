/* The probe: what this machine computes and reads at most, for a roofline.
 *
 *     probe CORES ROUNDS FLOPS BYTES[,BYTES...]
 *
 * One thread on each core of CORES (a list like 0,1), all together. Each reads memory of its own, which it touched
 * first; BYTES are for each thread, in multiples of 512. FLOPS is 1 or 0: the arithmetic kernels too, or the reads
 * alone. One line of JSON goes to stdout:
 *
 *     macs of a kernel  = threads * accumulators * lanes * macs_per_lane * iterations, in `seconds`
 *     bytes of a read   = threads * bytes * passes, in `seconds`
 *
 * `seconds` is the best repetition: from the first thread's start to the last one's end. A peak is a maximum, and what
 * disturbs a repetition only makes it slower. `checksum` is what the kernel computed: on ones each accumulator counts
 * its own multiply-accumulates, and the words read are their own indices. So the caller can hold the counts against the
 * work. It does not show that a compiler did the work step by step: hence what is hidden from it below.
 *
 * Compiled on the machine it measures, with all that its CPU has (-march=native): there is nothing to dispatch. It
 * writes no files, and does not know what a cache is: it is told the sizes, and naming levels is the caller's.
 * Not here: Intel's AMX, Arm's SVE and SME, and arithmetic in float16.
 */
#define _GNU_SOURCE
#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#if defined(__x86_64__) || defined(__i386__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

/* Independent accumulators hide the latency of an instruction: latency (4 to 5 cycles) x instructions a cycle (2 to 4)
 * are in flight, and what has 16 registers must leave some for the operands. */
#if defined(__AVX512F__)
#define INSTRUCTION_SET "avx512"
#define VECTOR_BYTES 64
#define ACCUMULATORS 24
#define EACH EACH_24
#elif defined(__AVX2__) && defined(__FMA__)
#define INSTRUCTION_SET "avx2"
#define VECTOR_BYTES 32
#elif defined(__AVX__)
#define INSTRUCTION_SET "avx"
#define VECTOR_BYTES 32
#elif defined(__SSE2__)
#define INSTRUCTION_SET "sse2"
#define VECTOR_BYTES 16
#elif defined(__aarch64__)
#define INSTRUCTION_SET "neon"
#define VECTOR_BYTES 16
#define ACCUMULATORS 24
#define EACH EACH_24
#else
#define INSTRUCTION_SET "scalar"
#define VECTOR_BYTES 4
#endif
#ifndef EACH
#define ACCUMULATORS 12
#define EACH EACH_12
#endif

#define LANES (VECTOR_BYTES / 4)
#define READ_VECTORS 8 /* loads of one turn of the read loop, each with a sum of its own: EACH_8 */
#define TARGET_S 0.001 /* of a repetition: long against a clock of 30 ns, shorter than the turn of another process */
#define REPETITIONS 2  /* of each kernel in a round; rounds lie apart, so that one disturbance spoils no figure */
#define LIMIT_S 3.0    /* no round begins after this: on a machine with other work fewer must do */
#define MAX_THREADS 1024
#define MAX_READS 256
#define HUGE_PAGE_BYTES (2u << 20)
#define MAX_COUNT 16000000L /* float32 counts exactly up to 2^24: a lane gets no more than this */

typedef float floats __attribute__((vector_size(VECTOR_BYTES)));
typedef uint32_t words __attribute__((vector_size(VECTOR_BYTES)));

/* The compiler must not see through these: what is constant, and that nobody wrote the memory in between. */
char zeros[ACCUMULATORS * VECTOR_BYTES] __attribute__((aligned(64))); /* not static: nobody can tell who writes it */
static volatile float one_float = 1.0f;
static volatile int8_t one_byte __attribute__((unused)) = 1;
#define MEMORY_MAY_HAVE_CHANGED() __asm__ volatile("" ::: "memory")

/* Named variables, not an array: each must live in a register, and a compiler may keep an array in memory. */
#define EACH_8(do, with) do(0, with) do(1, with) do(2, with) do(3, with) do(4, with) do(5, with) do(6, with) do(7, with)
#define EACH_12(do, with) EACH_8(do, with) do(8, with) do(9, with) do(10, with) do(11, with)
#define EACH_24(do, with) \
    EACH_12(do, with) do(12, with) do(13, with) do(14, with) do(15, with) do(16, with) do(17, with) do(18, with) \
    do(19, with) do(20, with) do(21, with) do(22, with) do(23, with)
/* Each starts from zeros of its own that the compiler does not know: else all are equal, and it keeps only one. */
#define DECLARE(i, vector) \
    vector sum##i;         \
    memcpy(&sum##i, zeros + (i) * sizeof sum##i, sizeof sum##i);
#define ADVANCE(i, step) sum##i = step(sum##i, x);
#define ADD_WORDS(i, at) sum##i += at[i];
#define STORE(i, into) into[i] = sum##i;

/* An arithmetic kernel makes `iterations` turns of one step on each accumulator, and returns the sum of all their
 * lanes. x holds ones that the compiler does not know; a step adds macs_per_lane products of them to each lane. */
#define ARITHMETIC_KERNEL(name, vector, operand, ones, step, total_of)    \
    static double name(long iterations) {                                 \
        const operand x = ones;                                           \
        EACH(DECLARE, vector)                                             \
        for (long turn = 0; turn < iterations; turn++) {                  \
            EACH(ADVANCE, step)                                           \
        }                                                                 \
        vector sums[ACCUMULATORS];                                        \
        EACH(STORE, sums)                                                 \
        return total_of(sums, sizeof sums);                               \
    }

/* Out of line: taken into a kernel, the sum of lanes costs its loop registers (seen with clang 14). */
__attribute__((noinline)) static double total_of_floats(const void *lanes, size_t bytes) {
    float value;
    double total = 0;
    for (size_t at = 0; at < bytes; at += sizeof value) {
        memcpy(&value, (const char *)lanes + at, sizeof value);
        total += value;
    }
    return total;
}

static floats float_ones(void) {
    floats ones;
    for (int lane = 0; lane < LANES; lane++) ones[lane] = one_float;
    return ones;
}
#define FLOAT_STEP(sum, x) sum * x + x
ARITHMETIC_KERNEL(fp32_kernel, floats, floats, float_ones(), FLOAT_STEP, total_of_floats)

#if defined(__AVX512BF16__)
#define BF16_INSTRUCTION "dpbf16ps"
#define BF16_MACS 2
#define BF16_ONES _mm512_cvtne2ps_pbh(float_ones(), float_ones())
#define BF16_STEP(sum, x) _mm512_dpbf16_ps(sum, x, x)
ARITHMETIC_KERNEL(bf16_kernel, __m512, __m512bh, BF16_ONES, BF16_STEP, total_of_floats)
#elif defined(__aarch64__) && defined(__ARM_FEATURE_BF16_VECTOR_ARITHMETIC)
#define BF16_INSTRUCTION "bfmmla"
#define BF16_MACS 4
#define BF16_STEP(sum, x) vbfmmlaq_f32(sum, x, x)
ARITHMETIC_KERNEL(bf16_kernel, float32x4_t, bfloat16x8_t, vdupq_n_bf16(vcvth_bf16_f32(one_float)), BF16_STEP,
                  total_of_floats)
#endif

#if defined(__AVX512VNNI__)
#define INT8_INSTRUCTION "vpdpbusd"
#define INT8_VECTOR __m512i
#define INT8_ONES _mm512_set1_epi8(one_byte)
#define INT8_STEP(sum, x) _mm512_dpbusd_epi32(sum, x, x)
#elif defined(__AVXVNNI__)
#define INT8_INSTRUCTION "vpdpbusd"
#define INT8_VECTOR __m256i
#define INT8_ONES _mm256_set1_epi8(one_byte)
#define INT8_STEP(sum, x) _mm256_dpbusd_avx_epi32(sum, x, x)
#elif defined(__AVX512BW__) || (defined(__AVX2__) && VECTOR_BYTES == 32)
/* No dot product: three instructions stand in for it, and still do more than float32 does in their time. In assembly,
 * since the two products depend on x alone and would be taken out of the loop. */
#define INT8_INSTRUCTION "vpmaddubsw, vpmaddwd, vpaddd"
#define INT8_VECTOR words
#define INT8_ONES ((words){0} + 0x01010101u * (uint32_t)one_byte)
static inline words INT8_STEP(words sum, words x) {
    words products;
    __asm__ volatile("vpmaddubsw %2, %2, %1\n\tvpmaddwd %3, %1, %1\n\tvpaddd %1, %0, %0"
                     : "+v"(sum), "=&v"(products)
                     : "v"(x), "v"((words){0} + 0x00010001u));
    return sum;
}
#elif defined(__aarch64__) && defined(__ARM_FEATURE_MATMUL_INT8)
#define INT8_INSTRUCTION "smmla"
#define INT8_VECTOR int32x4_t
#define INT8_OPERAND int8x16_t
#define INT8_ONES vdupq_n_s8(one_byte)
#define INT8_MACS 8
#define INT8_STEP(sum, x) vmmlaq_s32(sum, x, x)
#elif defined(__aarch64__) && defined(__ARM_FEATURE_DOTPROD)
#define INT8_INSTRUCTION "sdot"
#define INT8_VECTOR int32x4_t
#define INT8_OPERAND int8x16_t
#define INT8_ONES vdupq_n_s8(one_byte)
#define INT8_STEP(sum, x) vdotq_s32(sum, x, x)
#endif

#ifdef INT8_INSTRUCTION
#ifndef INT8_OPERAND
#define INT8_OPERAND INT8_VECTOR
#endif
#ifndef INT8_MACS
#define INT8_MACS 4
#endif
__attribute__((noinline)) static double total_of_integers(const void *lanes, size_t bytes) {
    int32_t value;
    double total = 0;
    for (size_t at = 0; at < bytes; at += sizeof value) {
        memcpy(&value, (const char *)lanes + at, sizeof value);
        total += value;
    }
    return total;
}
ARITHMETIC_KERNEL(int8_kernel, INT8_VECTOR, INT8_OPERAND, INT8_ONES, INT8_STEP, total_of_integers)
#endif

typedef struct {
    const char *precision, *instruction;
    int lanes, macs_per_lane;
    double (*run)(long iterations);
} Arithmetic;

static const Arithmetic ARITHMETIC[] = {
    {"fp32", INSTRUCTION_SET, LANES, 1, fp32_kernel},
#ifdef BF16_INSTRUCTION
    {"bf16", BF16_INSTRUCTION, LANES, BF16_MACS, bf16_kernel},
#endif
#ifdef INT8_INSTRUCTION
    {"int8", INT8_INSTRUCTION, (int)(sizeof(INT8_VECTOR) / 4), INT8_MACS, int8_kernel},
#endif
};
#define ARITHMETIC_COUNT ((int)(sizeof ARITHMETIC / sizeof ARITHMETIC[0]))

/* Read `bytes` from `memory`, `passes` times, each word added modulo 2^32 to its lane of a sum; return the total. */
static uint32_t read_kernel(const words *memory, size_t bytes, long passes) {
    const words *end = memory + bytes / sizeof(words);
    EACH_8(DECLARE, words)
    for (long pass = 0; pass < passes; pass++) {
        MEMORY_MAY_HAVE_CHANGED();
        for (const words *at = memory; at < end; at += READ_VECTORS) {
            EACH_8(ADD_WORDS, at)
        }
    }
    words sum = sum0 + sum1 + sum2 + sum3 + sum4 + sum5 + sum6 + sum7;
    uint32_t total = 0;
    for (int lane = 0; lane < LANES; lane++) total += sum[lane];
    return total;
}

typedef struct {
    long count; /* iterations or passes of the best repetition; 0: none yet */
    double seconds, checksum;
    long next_count; /* with which to begin in the next round */
} Best;

static int threads, rounds, read_count, with_flops;
static size_t cores[MAX_THREADS], read_bytes[MAX_READS], memory_bytes;
static Best best_flops[ARITHMETIC_COUNT], best_reads[MAX_READS];
static double starts[MAX_THREADS], ends[MAX_THREADS], checksums[MAX_THREADS];
static int failed, late;

/* All wait until the last one comes, without sleeping: who slept would start 50 us after the others. They yield, as
 * spinning would use up the turns that Linux gives them where other work runs. */
static void meet(void) {
    static int waiting, turn;
    const int mine = __atomic_load_n(&turn, __ATOMIC_ACQUIRE);
    if (__atomic_add_fetch(&waiting, 1, __ATOMIC_ACQ_REL) == threads) {
        __atomic_store_n(&waiting, 0, __ATOMIC_RELAXED);
        __atomic_store_n(&turn, mine + 1, __ATOMIC_RELEASE);
        return;
    }
    while (__atomic_load_n(&turn, __ATOMIC_ACQUIRE) == mine) sched_yield();
}

static double now_s(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

/* One repetition, made by all threads together: seconds from the first one's start to the last one's end. */
static double repeat(int self, const Arithmetic *arithmetic, const words *memory, size_t bytes, long count) {
    meet();
    starts[self] = now_s();
    checksums[self] = arithmetic ? arithmetic->run(count) : read_kernel(memory, bytes, count);
    ends[self] = now_s();
    meet();
    double first = starts[0], last = ends[0];
    for (int i = 1; i < threads; i++) {
        if (starts[i] < first) first = starts[i];
        if (ends[i] > last) last = ends[i];
    }
    return last - first;
}

/* Repeat until REPETITIONS were long enough, making them longer until they are. A repetition that was disturbed looks
 * long enough when it is not: so the count goes on growing whenever a later one turns out short. */
static void measure(int self, const Arithmetic *arithmetic, const words *memory, size_t bytes, Best *best) {
    const long limit = arithmetic ? MAX_COUNT / arithmetic->macs_per_lane : LONG_MAX / 2;
    long count = best->next_count ? best->next_count : 1;
    for (int repetition = 0; repetition < REPETITIONS;) { /* all threads take the same turns: they see the same times */
        const double seconds = repeat(self, arithmetic, memory, bytes, count);
        if (seconds < 0.8 * TARGET_S && count < limit) {
            const double more = seconds > 1e-3 * TARGET_S ? TARGET_S / seconds : 1000;
            count = more * (double)count + 1 < (double)limit ? (long)(more * (double)count) + 1 : limit;
            continue;
        }
        repetition++;
        if (self == 0 && (best->count == 0 || seconds / (double)count < best->seconds / (double)best->count)) {
            best->count = count;
            best->seconds = seconds;
            best->checksum = 0;
            for (int i = 0; i < threads; i++) best->checksum += checksums[i];
        }
    }
    meet(); /* the others have read where to begin */
    if (self == 0) best->next_count = count;
}

static void *work(void *argument) {
    const int self = (int)(intptr_t)argument;
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(cores[self], &set);
    if (pthread_setaffinity_np(pthread_self(), sizeof set, &set) != 0) __atomic_store_n(&failed, 1, __ATOMIC_RELAXED);
    /* Aligned for huge pages, and asked for them: without, the page tables are measured beyond a few MiB. */
    const size_t whole = memory_bytes + HUGE_PAGE_BYTES;
    char *region = mmap(NULL, whole, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    uint32_t *memory = NULL;
    if (region == MAP_FAILED) {
        __atomic_store_n(&failed, 2, __ATOMIC_RELAXED);
    } else {
        memory = (uint32_t *)(((uintptr_t)region + HUGE_PAGE_BYTES - 1) / HUGE_PAGE_BYTES * HUGE_PAGE_BYTES);
        madvise(memory, memory_bytes, MADV_HUGEPAGE); /* a wish: where it is not granted, small pages do */
        for (size_t i = 0; i < memory_bytes / sizeof *memory; i++) memory[i] = (uint32_t)i;
    }
    meet();
    if (failed) return NULL;
    const double begun = now_s();
    for (int round = 0; round < rounds && !late; round++) {
        for (int k = 0; with_flops && k < ARITHMETIC_COUNT; k++) measure(self, &ARITHMETIC[k], NULL, 0, &best_flops[k]);
        for (int k = 0; k < read_count; k++) {
            measure(self, NULL, (const words *)memory, read_bytes[k], &best_reads[k]);
        }
        if (self == 0) late = now_s() - begun > LIMIT_S;
        meet();
    }
    return NULL;
}

static void print_results(void) {
    printf("{\"instruction_set\": \"%s\", \"threads\": %d, \"flops\": [", INSTRUCTION_SET, threads);
    for (int k = 0; with_flops && k < ARITHMETIC_COUNT; k++) {
        const Arithmetic *a = &ARITHMETIC[k];
        printf("%s{\"precision\": \"%s\", \"instruction\": \"%s\", \"accumulators\": %d, \"lanes\": %d, "
               "\"macs_per_lane\": %d, \"iterations\": %ld, \"seconds\": %.9f, \"checksum\": %.0f}",
               k ? ", " : "", a->precision, a->instruction, ACCUMULATORS, a->lanes, a->macs_per_lane,
               best_flops[k].count, best_flops[k].seconds, best_flops[k].checksum);
    }
    printf("], \"reads\": [");
    for (int k = 0; k < read_count; k++) {
        printf("%s{\"bytes\": %zu, \"passes\": %ld, \"seconds\": %.9f, \"checksum\": %.0f}", k ? ", " : "",
               read_bytes[k], best_reads[k].count, best_reads[k].seconds, best_reads[k].checksum);
    }
    printf("]}\n");
}

/* Parse a list like 4096,8192 into `values`; return how many there are, 0 when it is no such list. */
static int parse_list(const char *text, size_t *values, int limit) {
    int count = 0;
    for (char *end; count < limit; text = end + 1) {
        values[count++] = strtoull(text, &end, 10);
        if (end == text || (*end != ',' && *end != '\0')) return 0;
        if (*end == '\0') return count;
    }
    return 0;
}

static int usage(const char *what) {
    fprintf(stderr, "%s; usage: probe CORES ROUNDS FLOPS BYTES[,BYTES...]\n", what);
    return 2;
}

int main(int argc, char **argv) {
    if (argc != 5) return usage("four arguments");
    threads = parse_list(argv[1], cores, MAX_THREADS);
    rounds = atoi(argv[2]);
    with_flops = atoi(argv[3]);
    if (threads == 0 || rounds < 1) return usage("CORES is a list of numbers, ROUNDS above 0");
    read_count = parse_list(argv[4], read_bytes, MAX_READS);
    if (read_count == 0) return usage("BYTES is a list of numbers");
    for (int k = 0; k < read_count; k++) {
        if (read_bytes[k] == 0 || read_bytes[k] % 512) return usage("BYTES are multiples of 512");
        if (read_bytes[k] > memory_bytes) memory_bytes = read_bytes[k];
    }
    pthread_t others[MAX_THREADS];
    for (int i = 1; i < threads; i++) {
        if (pthread_create(&others[i], NULL, work, (void *)(intptr_t)i) != 0) {
            perror("a thread could not be started");
            return 4;
        }
    }
    work((void *)0);
    for (int i = 1; i < threads; i++) pthread_join(others[i], NULL);
    if (failed) {
        fprintf(stderr, "%s (cores %s)\n", failed == 1 ? "a thread could not be pinned" : "not enough memory", argv[1]);
        return 4;
    }
    print_results();
    return 0;
}
