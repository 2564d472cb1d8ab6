/* Runs a library on a board: numbers from the file `in` to the file `out`, both the host's, through semihosting.
 *
 *     -DHEADER='"net.h"' -DNAME(function)=net_##function -DSAMPLES=.. -DIN_BYTES=.. -DOUT_BYTES=.. -DBYTES=NET_ARENA_BYTES */
#include "semihosting.h"

#include HEADER

static _Alignas(EDGELINE_ARENA_ALIGNMENT) unsigned char arena[BYTES], input[IN_BYTES], output[OUT_BYTES];

int main(void)
{
    const int in = semihosting_open("in", SEMIHOSTING_READ), out = semihosting_open("out", SEMIHOSTING_WRITE);
    if (in < 0 || out < 0 || semihosting_read(in, input, IN_BYTES) != 0) return 101;
    for (size_t i = 0; i < sizeof arena; i++) arena[i] = 0xA5; /* what a caller's memory holds is nobody's zeros */
    const int code = NAME(infer)((const void *)input, (void *)output, SAMPLES, arena, sizeof arena);
    if (code == EDGELINE_OK && semihosting_write(out, output, OUT_BYTES) != 0) return 102;
    return semihosting_close(out) != 0 ? 103 : code;
}
