/* lenet: chooses among the instruction sets of this library the last one that the CPU has.
 *
 * It does so once, while the library is loaded: nobody can call anything before, so no call looks, waits or races. */

#include "lenet.h"

typedef struct {
    const char *(*isa)(void);
    int (*infer)(const float *input, float *output, size_t n, void *arena, size_t arena_bytes);
    int (*infer_u8)(const uint8_t *pixels, float *output, size_t n, void *arena, size_t arena_bytes);
    int (*infer_threads)(const float *input, float *output, size_t n, void *arena, size_t arena_bytes,
        struct edgeline_threads *pool);
    struct edgeline_threads *(*threads_start)(int threads);
    void (*threads_end)(struct edgeline_threads *pool);
    int (*infer_profile)(const float *input, float *output, size_t n, void *arena, size_t arena_bytes,
        struct edgeline_threads *pool, double *seconds);
    int (*layers)(void);
    const char *(*layer_kernel)(int layer);
    const char *(*layer_nodes)(int layer);
} lenet_variant;

const char *lenet_isa_base(void);
int lenet_infer_base(const float *input, float *output, size_t n, void *arena, size_t arena_bytes);
int lenet_infer_u8_base(const uint8_t *pixels, float *output, size_t n, void *arena, size_t arena_bytes);
int lenet_infer_threads_base(const float *input, float *output, size_t n, void *arena, size_t arena_bytes,
        struct edgeline_threads *pool);
struct edgeline_threads *lenet_threads_start_base(int threads);
void lenet_threads_end_base(struct edgeline_threads *pool);
int lenet_infer_profile_base(const float *input, float *output, size_t n, void *arena, size_t arena_bytes,
        struct edgeline_threads *pool, double *seconds);
int lenet_layers_base(void);
const char *lenet_layer_kernel_base(int layer);
const char *lenet_layer_nodes_base(int layer);

const char *lenet_isa_v3(void);
int lenet_infer_v3(const float *input, float *output, size_t n, void *arena, size_t arena_bytes);
int lenet_infer_u8_v3(const uint8_t *pixels, float *output, size_t n, void *arena, size_t arena_bytes);
int lenet_infer_threads_v3(const float *input, float *output, size_t n, void *arena, size_t arena_bytes,
        struct edgeline_threads *pool);
struct edgeline_threads *lenet_threads_start_v3(int threads);
void lenet_threads_end_v3(struct edgeline_threads *pool);
int lenet_infer_profile_v3(const float *input, float *output, size_t n, void *arena, size_t arena_bytes,
        struct edgeline_threads *pool, double *seconds);
int lenet_layers_v3(void);
const char *lenet_layer_kernel_v3(int layer);
const char *lenet_layer_nodes_v3(int layer);

const char *lenet_isa_v4(void);
int lenet_infer_v4(const float *input, float *output, size_t n, void *arena, size_t arena_bytes);
int lenet_infer_u8_v4(const uint8_t *pixels, float *output, size_t n, void *arena, size_t arena_bytes);
int lenet_infer_threads_v4(const float *input, float *output, size_t n, void *arena, size_t arena_bytes,
        struct edgeline_threads *pool);
struct edgeline_threads *lenet_threads_start_v4(int threads);
void lenet_threads_end_v4(struct edgeline_threads *pool);
int lenet_infer_profile_v4(const float *input, float *output, size_t n, void *arena, size_t arena_bytes,
        struct edgeline_threads *pool, double *seconds);
int lenet_layers_v4(void);
const char *lenet_layer_kernel_v4(int layer);
const char *lenet_layer_nodes_v4(int layer);

const char *lenet_isa_vnni(void);
int lenet_infer_vnni(const float *input, float *output, size_t n, void *arena, size_t arena_bytes);
int lenet_infer_u8_vnni(const uint8_t *pixels, float *output, size_t n, void *arena, size_t arena_bytes);
int lenet_infer_threads_vnni(const float *input, float *output, size_t n, void *arena, size_t arena_bytes,
        struct edgeline_threads *pool);
struct edgeline_threads *lenet_threads_start_vnni(int threads);
void lenet_threads_end_vnni(struct edgeline_threads *pool);
int lenet_infer_profile_vnni(const float *input, float *output, size_t n, void *arena, size_t arena_bytes,
        struct edgeline_threads *pool, double *seconds);
int lenet_layers_vnni(void);
const char *lenet_layer_kernel_vnni(int layer);
const char *lenet_layer_nodes_vnni(int layer);

static const lenet_variant lenet_variants[] = {
    {
        lenet_isa_base,
        lenet_infer_base,
        lenet_infer_u8_base,
        lenet_infer_threads_base,
        lenet_threads_start_base,
        lenet_threads_end_base,
        lenet_infer_profile_base,
        lenet_layers_base,
        lenet_layer_kernel_base,
        lenet_layer_nodes_base,
    },
    {
        lenet_isa_v3,
        lenet_infer_v3,
        lenet_infer_u8_v3,
        lenet_infer_threads_v3,
        lenet_threads_start_v3,
        lenet_threads_end_v3,
        lenet_infer_profile_v3,
        lenet_layers_v3,
        lenet_layer_kernel_v3,
        lenet_layer_nodes_v3,
    },
    {
        lenet_isa_v4,
        lenet_infer_v4,
        lenet_infer_u8_v4,
        lenet_infer_threads_v4,
        lenet_threads_start_v4,
        lenet_threads_end_v4,
        lenet_infer_profile_v4,
        lenet_layers_v4,
        lenet_layer_kernel_v4,
        lenet_layer_nodes_v4,
    },
    {
        lenet_isa_vnni,
        lenet_infer_vnni,
        lenet_infer_u8_vnni,
        lenet_infer_threads_vnni,
        lenet_threads_start_vnni,
        lenet_threads_end_vnni,
        lenet_infer_profile_vnni,
        lenet_layers_vnni,
        lenet_layer_kernel_vnni,
        lenet_layer_nodes_vnni,
    },
};

static const lenet_variant *lenet_chosen = &lenet_variants[0];

static int lenet_has_v3(void)
{
    return __builtin_cpu_supports("avx2")
           && __builtin_cpu_supports("bmi")
           && __builtin_cpu_supports("bmi2")
           && __builtin_cpu_supports("fma");
}

static int lenet_has_v4(void)
{
    return __builtin_cpu_supports("avx2")
           && __builtin_cpu_supports("bmi")
           && __builtin_cpu_supports("bmi2")
           && __builtin_cpu_supports("fma")
           && __builtin_cpu_supports("avx512f")
           && __builtin_cpu_supports("avx512bw")
           && __builtin_cpu_supports("avx512cd")
           && __builtin_cpu_supports("avx512dq")
           && __builtin_cpu_supports("avx512vl");
}

static int lenet_has_vnni(void)
{
    return __builtin_cpu_supports("avx2")
           && __builtin_cpu_supports("bmi")
           && __builtin_cpu_supports("bmi2")
           && __builtin_cpu_supports("fma")
           && __builtin_cpu_supports("avx512f")
           && __builtin_cpu_supports("avx512bw")
           && __builtin_cpu_supports("avx512cd")
           && __builtin_cpu_supports("avx512dq")
           && __builtin_cpu_supports("avx512vl")
           && __builtin_cpu_supports("avx512vnni")
           && __builtin_cpu_supports("avx512vbmi");
}

__attribute__((constructor)) static void lenet_choose(void)
{
    __builtin_cpu_init();
    if (lenet_has_v3()) lenet_chosen = &lenet_variants[1];
    if (lenet_has_v4()) lenet_chosen = &lenet_variants[2];
    if (lenet_has_vnni()) lenet_chosen = &lenet_variants[3];
}

size_t lenet_arena_bytes(size_t n)
{
    (void)n; /* the same for all of them */
    return LENET_ARENA_BYTES;
}

size_t lenet_u8_arena_bytes(size_t n)
{
    (void)n; /* the same for all of them */
    return LENET_U8_ARENA_BYTES;
}

const char *lenet_isa(void)
{
    return lenet_chosen->isa();
}

int lenet_infer(const float *input, float *output, size_t n, void *arena, size_t arena_bytes)
{
    return lenet_chosen->infer(input, output, n, arena, arena_bytes);
}

int lenet_infer_u8(const uint8_t *pixels, float *output, size_t n, void *arena, size_t arena_bytes)
{
    return lenet_chosen->infer_u8(pixels, output, n, arena, arena_bytes);
}

int lenet_infer_threads(const float *input, float *output, size_t n, void *arena, size_t arena_bytes,
        struct edgeline_threads *pool)
{
    return lenet_chosen->infer_threads(input, output, n, arena, arena_bytes, pool);
}

struct edgeline_threads *lenet_threads_start(int threads)
{
    return lenet_chosen->threads_start(threads);
}

void lenet_threads_end(struct edgeline_threads *pool)
{
    lenet_chosen->threads_end(pool);
}

int lenet_infer_profile(const float *input, float *output, size_t n, void *arena, size_t arena_bytes,
        struct edgeline_threads *pool, double *seconds)
{
    return lenet_chosen->infer_profile(input, output, n, arena, arena_bytes, pool, seconds);
}

int lenet_layers(void)
{
    return lenet_chosen->layers();
}

const char *lenet_layer_kernel(int layer)
{
    return lenet_chosen->layer_kernel(layer);
}

const char *lenet_layer_nodes(int layer)
{
    return lenet_chosen->layer_nodes(layer);
}
