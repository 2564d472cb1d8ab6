/* Runs a generated library on numbers from stdin and writes what it computes to stdout: a crash ends this process only.
 *
 *     -DHEADER='"net.h"' -DNAME(function)=net_##function; arguments: n, bytes in, bytes out
 *
 * With -DPIXELS the numbers are pixels, for infer_u8.
 *
 * With -DEDGELINE_THREADS it makes three calls, from two threads of its own, which share a pool of three. With
 * -DEDGELINE_PROFILE it writes a line for each layer to stderr: seconds, kernel, nodes. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include HEADER

#ifdef PIXELS
#define ARENA_BYTES NAME(u8_arena_bytes)
#define INFER NAME(infer_u8)
#else
#define ARENA_BYTES NAME(arena_bytes)
#define INFER NAME(infer)
#endif

#ifdef EDGELINE_THREADS
#include <pthread.h>

typedef struct {
    const void *in;
    void *out, *arena;
    size_t n, arena_bytes;
    struct edgeline_threads *pool;
    int code;
} call;

static void *run_call(void *argument)
{
    call *c = argument;
    c->code = NAME(infer_threads)(c->in, c->out, c->n, c->arena, c->arena_bytes, c->pool);
    return NULL;
}

static int run_in_threads(const void *in, void *out, size_t n, void *arena, size_t arena_bytes, size_t out_bytes)
{
    struct edgeline_threads *pool = NAME(threads_start)(3);
    if (pool == NULL) return 104;
        call first = {.in = in, .out = out, .arena = arena, .n = n, .arena_bytes = arena_bytes, .pool = pool};
    call second = first;
    void *whole = malloc(arena_bytes + EDGELINE_ARENA_ALIGNMENT);
    second.arena = (char *)whole + (EDGELINE_ARENA_ALIGNMENT - (size_t)whole % EDGELINE_ARENA_ALIGNMENT);
    second.out = malloc(out_bytes);
    pthread_t thread;
    if (whole == NULL || second.out == NULL || pthread_create(&thread, NULL, run_call, &second) != 0) return 105;
    run_call(&first);
    pthread_join(thread, NULL);
    run_call(&first);
    const int same = memcmp(first.out, second.out, out_bytes) == 0;
    free(second.out), free(whole);
    NAME(threads_end)(pool);
    return first.code ? first.code : second.code ? second.code : same ? 0 : 106;
}
#endif

int main(int argc, char **argv)
{
    if (argc != 4) return 100;
    const size_t n = (size_t)atol(argv[1]), in_bytes = (size_t)atol(argv[2]), out_bytes = (size_t)atol(argv[3]);
    const size_t arena_bytes = ARENA_BYTES(n);
    void *in = malloc(in_bytes), *out = malloc(out_bytes), *whole = malloc(arena_bytes + EDGELINE_ARENA_ALIGNMENT);
    if (in == NULL || out == NULL || whole == NULL) return 101;
    memset(whole, 0xA5, arena_bytes + EDGELINE_ARENA_ALIGNMENT); /* what a caller's memory holds is nobody's zeros */
    memset(out, 0xA5, out_bytes);
    char *arena = whole;
    while ((size_t)arena % EDGELINE_ARENA_ALIGNMENT != 0) arena++;
    if (fread(in, 1, in_bytes, stdin) != in_bytes) return 102;
#if defined(EDGELINE_THREADS)
    const int code = run_in_threads(in, out, n, arena, arena_bytes, out_bytes);
#elif defined(EDGELINE_PROFILE)
    double *seconds = calloc((size_t)NAME(layers)(), sizeof *seconds);
    const int code = NAME(infer_profile)(in, out, n, arena, arena_bytes, NULL, seconds);
    for (int i = 0; i < NAME(layers)(); i++)
        fprintf(stderr, "%.9f|%s|%s\n", seconds[i], NAME(layer_kernel)(i), NAME(layer_nodes)(i));
    free(seconds);
#else
    const int code = INFER(in, out, n, arena, arena_bytes);
#endif
    if (code == EDGELINE_OK && fwrite(out, 1, out_bytes, stdout) != out_bytes) return 103;
    free(in), free(out), free(whole);
    return code;
}
