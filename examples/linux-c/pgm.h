/* Reads grey images: PGM, binary (P5) and text (P2), comments in the header, 8 bits a pixel. */

#ifndef PGM_H
#define PGM_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* Reads an image of exactly height x width into pixels, row by row, 0 black to 255 white. Returns 0; or -1, with what is
 * wrong in `why`, a line without its end. */
int pgm_read(FILE *file, int height, int width, uint8_t *pixels, char *why, size_t why_bytes);

#endif
