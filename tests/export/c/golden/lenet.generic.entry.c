size_t lenet_arena_bytes(size_t n)
{
    (void)n;
    return LENET_ARENA_BYTES;
}

const char *lenet_isa(void)
{
    return EDGELINE_ISA;
}

static void lenet_sample(const edgeline_run *run)
{
    EDGELINE_PROFILE_BEGIN
    lenet_step_1(run, 0, 1);
    EDGELINE_PROFILE_STEP(0)
    lenet_step_2(run, 0, 1);
    EDGELINE_PROFILE_STEP(1)
    lenet_step_3(run, 0, 1);
    EDGELINE_PROFILE_STEP(2)
    lenet_step_4(run, 0, 1);
    EDGELINE_PROFILE_STEP(3)
    lenet_step_5(run, 0, 1);
    EDGELINE_PROFILE_STEP(4)
}

static void lenet_blocks(const float *input, float *output, size_t n, void *arena,
                         struct edgeline_threads *pool, double *seconds)
{
    for (size_t done = 0; done < n; done += 1) {
        edgeline_run run = {
            .input = (const unsigned char *)input + done * 3136,
            .output = (unsigned char *)output + done * 40,
            .arena = (unsigned char *)arena,
            .rows = n - done < 1 ? n - done : 1,
            .pool = pool,
            .seconds = seconds,
        };
        for (run.row = 0; run.row < run.rows; run.row++) {
            run.sample = run.input + run.row * 3136;
            lenet_sample(&run);
        }
    }
}

int lenet_infer(const float *input, float *output, size_t n, void *arena, size_t arena_bytes)
{
    if (input == NULL || output == NULL || arena == NULL) return EDGELINE_ENULL;
    if (n == 0) return EDGELINE_EBATCH;
    if ((uintptr_t)arena % EDGELINE_ARENA_ALIGNMENT != 0) return EDGELINE_EALIGNMENT;
    if (arena_bytes < lenet_arena_bytes(n)) return EDGELINE_EARENA;
    lenet_blocks(input, output, n, arena, NULL, NULL);
    return EDGELINE_OK;
}

static void lenet_u8_blocks(const uint8_t *pixels, float *output, size_t n, void *arena,
                            struct edgeline_threads *pool, double *seconds)
{
    for (size_t done = 0; done < n; done += 1) {
        edgeline_run run = {
            .input = (const unsigned char *)arena + 8896,
            .output = (unsigned char *)output + done * 40,
            .arena = (unsigned char *)arena,
            .rows = n - done < 1 ? n - done : 1,
            .pool = pool,
            .seconds = seconds,
        };
        for (run.row = 0; run.row < run.rows; run.row++) {
            static const edgeline_pixels image = {
                .images = 1,
                .channels = 1,
                .rows = 28,
                .columns = 28,
                .pad_rows = 0,
                .pad_columns = 0,
            };
            const uint8_t *from = pixels + (done + run.row) * 784;
            float *sample = (float *)(run.arena + 8896);
            edgeline_pixels_f32(&image, from, lenet_pixels, sample);
            run.sample = (const unsigned char *)sample;
            lenet_sample(&run);
        }
    }
}

size_t lenet_u8_arena_bytes(size_t n)
{
    (void)n;
    return LENET_U8_ARENA_BYTES;
}

int lenet_infer_u8(const uint8_t *pixels, float *output, size_t n, void *arena, size_t arena_bytes)
{
    if (pixels == NULL || output == NULL || arena == NULL) return EDGELINE_ENULL;
    if (n == 0) return EDGELINE_EBATCH;
    if ((uintptr_t)arena % EDGELINE_ARENA_ALIGNMENT != 0) return EDGELINE_EALIGNMENT;
    if (arena_bytes < lenet_u8_arena_bytes(n)) return EDGELINE_EARENA;
    lenet_u8_blocks(pixels, output, n, arena, NULL, NULL);
    return EDGELINE_OK;
}

#ifdef EDGELINE_THREADS
static void lenet_part(const edgeline_run *run, int part, int parts)
{
    (void)parts;
    void *arena = edgeline_threads_arena(run, part);
    size_t first;
    for (size_t n; (n = edgeline_threads_samples(run, &first)) > 0;) {
        const float *input = (const float *)(run->input + first * 3136);
        float *output = (float *)(run->output + first * 40);
        lenet_blocks(input, output, n, arena, NULL, NULL);
    }
}

static void lenet_shared(const float *input, float *output, size_t n, void *arena,
                         struct edgeline_threads *pool, double *seconds)
{
    if (pool == NULL || n < 6) {
        lenet_blocks(input, output, n, arena, NULL, seconds);
        return;
    }
    const edgeline_run run = {
        .input = (const unsigned char *)input,
        .output = (unsigned char *)output,
        .arena = arena,
        .rows = n,
        .pool = pool,
    };
    edgeline_threads_share(lenet_part, &run, 1);
}

struct edgeline_threads *lenet_threads_start(int threads)
{
    return edgeline_threads_start(threads, LENET_ARENA_BYTES);
}

void lenet_threads_end(struct edgeline_threads *pool)
{
    if (pool != NULL) edgeline_threads_end(pool, pool->threads - 1);
}

int lenet_infer_threads(const float *input, float *output, size_t n, void *arena, size_t arena_bytes,
                        struct edgeline_threads *pool)
{
    if (input == NULL || output == NULL || arena == NULL) return EDGELINE_ENULL;
    if (n == 0) return EDGELINE_EBATCH;
    if ((uintptr_t)arena % EDGELINE_ARENA_ALIGNMENT != 0) return EDGELINE_EALIGNMENT;
    if (arena_bytes < lenet_arena_bytes(n)) return EDGELINE_EARENA;
    lenet_shared(input, output, n, arena, pool, NULL);
    return EDGELINE_OK;
}
#endif

#ifdef EDGELINE_PROFILE
int lenet_infer_profile(const float *input, float *output, size_t n, void *arena, size_t arena_bytes,
                        struct edgeline_threads *pool, double *seconds)
{
    if (input == NULL || output == NULL || arena == NULL) return EDGELINE_ENULL;
    if (n == 0) return EDGELINE_EBATCH;
    if ((uintptr_t)arena % EDGELINE_ARENA_ALIGNMENT != 0) return EDGELINE_EALIGNMENT;
    if (arena_bytes < lenet_arena_bytes(n)) return EDGELINE_EARENA;
    lenet_blocks(input, output, n, arena, pool, seconds);
    return EDGELINE_OK;
}

int lenet_layers(void)
{
    return LENET_LAYERS;
}

const char *lenet_layer_nodes(int layer)
{
    static const char *const names[LENET_LAYERS] = {
        "node_conv2d\012node_sigmoid\012node_avg_pool2d",
        "node_conv2d_1\012node_sigmoid_1\012node_avg_pool2d_1",
        "node_linear\012node_sigmoid_2",
        "node_linear_1\012node_sigmoid_3",
        "node_linear_2",
    };
    return layer >= 0 && layer < LENET_LAYERS ? names[layer] : NULL;
}

const char *lenet_layer_kernel(int layer)
{
    static const char *const names[LENET_LAYERS] = {
        "conv2d_planar_f32",
        "conv2d_f32",
        "gemm_f32",
        "gemm_f32",
        "gemm_f32",
    };
    return layer >= 0 && layer < LENET_LAYERS ? names[layer] : NULL;
}
#endif
