/* The format: https://netpbm.sourceforge.net/doc/pgm.html */

#include "pgm.h"

#include <ctype.h>

/* The next character that is not white space; a comment goes from # to the end of its line. */
static int next_character(FILE *file)
{
    int c = getc(file);
    while (c == '#' || isspace(c)) {
        if (c == '#')
            while (c != '\n' && c != EOF) c = getc(file);
        else
            c = getc(file);
    }
    return c;
}

/* A decimal number, and the one character behind it, or the comment; -1 where there is none, or one above 999,999. */
static long next_number(FILE *file)
{
    long value = 0;
    int c = next_character(file);
    if (!isdigit(c)) return -1;
    for (; isdigit(c); c = getc(file)) {
        value = 10 * value + (c - '0');
        if (value > 999999) return -1;
    }
    if (c == '#')
        while (c != '\n' && c != EOF) c = getc(file);
    return c == EOF || isspace(c) ? value : -1;
}

int pgm_read(FILE *file, int height, int width, uint8_t *pixels, char *why, size_t why_bytes)
{
    const size_t count = (size_t)height * (size_t)width;
    const int p = getc(file), kind = getc(file);
    if (p != 'P' || (kind != '2' && kind != '5')) {
        snprintf(why, why_bytes, "no PGM image: it begins with neither P2 nor P5");
        return -1;
    }
    const long columns = next_number(file), rows = next_number(file), maximum = next_number(file);
    if (columns <= 0 || rows <= 0 || maximum <= 0) {
        snprintf(why, why_bytes, "its header is damaged: expected width, height and the largest value");
        return -1;
    }
    if (columns != width || rows != height) {
        snprintf(why, why_bytes, "%ld x %ld pixels, expected %d x %d: resize it first", columns, rows, width, height);
        return -1;
    }
    if (maximum != 255) {
        snprintf(why, why_bytes, "its largest value is %ld, expected 255: convert it to 8 bits first", maximum);
        return -1;
    }
    size_t got = 0;
    if (kind == '5') {
        got = fread(pixels, 1, count, file);
    } else {
        for (long value; got < count && (value = next_number(file)) >= 0; got++) {
            if (value > 255) {
                snprintf(why, why_bytes, "pixel %zu is %ld, above its largest value", got, value);
                return -1;
            }
            pixels[got] = (uint8_t)value;
        }
    }
    if (got < count) {
        snprintf(why, why_bytes, "it ends, or is damaged, after %zu of %zu pixels", got, count);
        return -1;
    }
    return 0;
}
