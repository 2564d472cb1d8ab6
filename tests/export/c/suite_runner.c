/* Runs one network of a suite on numbers from stdin and writes what it computes to stdout.
 *
 * Arguments: its index in NETWORKS, n, bytes in, bytes out. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "suite_table.h"

static const struct {
    size_t (*arena_bytes)(size_t);
    int (*infer)(const void *, void *, size_t, void *, size_t);
} networks[] = {NETWORKS};

int main(int argc, char **argv)
{
    if (argc != 5) return 100;
    const size_t index = (size_t)atol(argv[1]), n = (size_t)atol(argv[2]);
    const size_t in_bytes = (size_t)atol(argv[3]), out_bytes = (size_t)atol(argv[4]);
    const size_t arena_bytes = networks[index].arena_bytes(n);
    void *in = malloc(in_bytes), *out = malloc(out_bytes), *whole = malloc(arena_bytes + EDGELINE_ARENA_ALIGNMENT);
    if (in == NULL || out == NULL || whole == NULL) return 101;
    memset(whole, 0xA5, arena_bytes + EDGELINE_ARENA_ALIGNMENT); /* what a caller's memory holds is nobody's zeros */
    memset(out, 0xA5, out_bytes);
    char *arena = whole;
    while ((size_t)arena % EDGELINE_ARENA_ALIGNMENT != 0) arena++;
    if (fread(in, 1, in_bytes, stdin) != in_bytes) return 102;
    const int code = networks[index].infer(in, out, n, arena, arena_bytes);
    if (code == EDGELINE_OK && fwrite(out, 1, out_bytes, stdout) != out_bytes) return 103;
    free(in), free(out), free(whole);
    return code;
}
