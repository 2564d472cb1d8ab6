/* Runs a generated library on numbers from stdin and writes what it computes to stdout: a crash ends this process only.
 *
 *     -DHEADER='"net.h"' -DARENA_BYTES=net_arena_bytes -DINFER=net_infer; arguments: n, bytes in, bytes out */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include HEADER

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
    const int code = INFER(in, out, n, arena, arena_bytes);
    if (code == EDGELINE_OK && fwrite(out, 1, out_bytes, stdout) != out_bytes) return 103;
    free(in), free(out), free(whole);
    return code;
}
