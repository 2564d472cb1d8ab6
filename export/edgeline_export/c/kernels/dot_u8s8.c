/* Dot products of unsigned by signed bytes, four at a time, into lanes of int32; and sums brought onto a grid.
 *
 * All that depends on the instruction set is here; the integer kernels are written once over it. EDGELINE_SUMS lanes; a
 * lane adds x[0] w[0] + x[1] w[1] + x[2] w[2] + x[3] w[3], exactly: no 16-bit sum saturates on the way. Weights lie as
 * [BLOCK][4] for every instruction set. Sums are bounded when the code is generated, so none overflows.
 *
 * Every number is the same with every compiler and instruction set: sums are integers; (float)sum * factor is rounded
 * once, clamped, and rounded to the nearest integer, halves to even. The product must not be contracted with a
 * following addition: edgeline_settled() stands between. Where signed bytes meet signed ones (dot_neon.c), x ^ 0x80 is
 * x - 128, EDGELINE_DOT_OFFSET is 128, and the bias holds 128 * sum(w) more.
 *
 * needs: vector grid */

#ifndef EDGELINE_SUMS /* dot_neon.c has not defined all of it */

#if defined(__GNUC__) && !defined(EDGELINE_SCALAR) && EDGELINE_DOT_OFFSET == 0
#if defined(__AVX512BW__) && defined(__AVX512VL__) && defined(__AVX512DQ__)
#define EDGELINE_SUMS 16
#define EDGELINE_DOT_ROOM 32 /* registers */
#elif defined(__AVX2__)
#define EDGELINE_SUMS 8
#define EDGELINE_DOT_ROOM 16
#elif defined(__SSE2__)
#define EDGELINE_SUMS 4
#define EDGELINE_DOT_ROOM 16
#endif
#endif

/* Registers that one operand takes, and vectors of channels in a tile, at most. */
#if defined(EDGELINE_SUMS) && ((EDGELINE_SUMS == 16 && defined(__AVX512VNNI__)) || \
                               (EDGELINE_SUMS == 8 && defined(__AVXVNNI__)))
#define EDGELINE_HAS_VNNI 1
#define EDGELINE_OPERAND 1
#define EDGELINE_DOT_VECTORS 4
#else
#define EDGELINE_HAS_VNNI 0
#define EDGELINE_OPERAND 2
#define EDGELINE_DOT_VECTORS 2
#endif

#ifdef EDGELINE_SUMS

#if EDGELINE_SUMS == 16
#define EDGELINE_MM(name) _mm512_##name
#define EDGELINE_MM_BITS(name) _mm512_##name##_si512
#define EDGELINE_SETTLED "+v"
typedef __m512i edgeline_sums;
typedef __m512 edgeline_factors;
#elif EDGELINE_SUMS == 8
#define EDGELINE_MM(name) _mm256_##name
#define EDGELINE_MM_BITS(name) _mm256_##name##_si256
#define EDGELINE_SETTLED "+x"
typedef __m256i edgeline_sums;
typedef __m256 edgeline_factors;
#else
#define EDGELINE_MM(name) _mm_##name
#define EDGELINE_MM_BITS(name) _mm_##name##_si128
#define EDGELINE_SETTLED "+x"
typedef __m128i edgeline_sums;
typedef __m128 edgeline_factors;
#endif
typedef edgeline_sums edgeline_x4; /* four activations in each lane */
typedef edgeline_sums edgeline_w4; /* four weights in each lane */

EDGELINE_INLINE edgeline_sums edgeline_sums_zero(void) { return EDGELINE_MM(set1_epi32)(0); }
EDGELINE_INLINE edgeline_sums edgeline_sums_all(int32_t n) { return EDGELINE_MM(set1_epi32)(n); }
EDGELINE_INLINE edgeline_sums edgeline_sums_load(const int32_t *from)
{
    return EDGELINE_MM_BITS(loadu)((const void *)from);
}
EDGELINE_INLINE edgeline_sums edgeline_sums_add(edgeline_sums a, edgeline_sums b)
{
    return EDGELINE_MM(add_epi32)(a, b);
}
/* Of numbers that fit int16. */
EDGELINE_INLINE edgeline_sums edgeline_products(edgeline_sums a, edgeline_sums b)
{
    return EDGELINE_MM(madd_epi16)(EDGELINE_MM_BITS(and)(a, EDGELINE_MM(set1_epi32)(0xFFFF)), b);
}
EDGELINE_INLINE edgeline_factors edgeline_factors_load(const float *from) { return EDGELINE_MM(loadu_ps)(from); }
EDGELINE_INLINE edgeline_factors edgeline_factors_all(float x) { return EDGELINE_MM(set1_ps)(x); }

/* Four beside each other, in all lanes; and one group of four for each lane. */
EDGELINE_INLINE edgeline_x4 edgeline_x4_all(const uint8_t *from)
{
    int32_t four;
    memcpy(&four, from, sizeof four);
    return EDGELINE_MM(set1_epi32)(four);
}
EDGELINE_INLINE edgeline_x4 edgeline_x4_load(const uint8_t *from)
{
    return EDGELINE_MM_BITS(loadu)((const void *)from);
}
EDGELINE_INLINE edgeline_w4 edgeline_w4_load(const int8_t *from)
{
    return EDGELINE_MM_BITS(loadu)((const void *)from);
}
EDGELINE_INLINE edgeline_w4 edgeline_w4_all(const int8_t *from)
{
    int32_t four;
    memcpy(&four, from, sizeof four);
    return EDGELINE_MM(set1_epi32)(four);
}

EDGELINE_INLINE edgeline_sums edgeline_dot4(edgeline_sums sum, edgeline_x4 x, edgeline_w4 w)
{
#if EDGELINE_HAS_VNNI && EDGELINE_SUMS == 16
    /* Not the intrinsic: gcc 12 moves loads across it until sums spill. */
    __asm__("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(x), "v"(w));
    return sum;
#elif EDGELINE_HAS_VNNI
    return _mm256_dpbusd_avx_epi32(sum, x, w);
#else
    /* As pairs of 16 bits: bytes 0 and 2, then 1 and 3. */
    const edgeline_sums even = EDGELINE_MM(madd_epi16)(EDGELINE_MM_BITS(and)(x, EDGELINE_MM(set1_epi16)(0x00FF)),
                                                       EDGELINE_MM(srai_epi16)(EDGELINE_MM(slli_epi16)(w, 8), 8));
    const edgeline_sums odd = EDGELINE_MM(madd_epi16)(EDGELINE_MM(srli_epi16)(x, 8), EDGELINE_MM(srai_epi16)(w, 8));
    return EDGELINE_MM(add_epi32)(sum, EDGELINE_MM(add_epi32)(even, odd));
#endif
}

EDGELINE_INLINE edgeline_sums edgeline_sums_max(edgeline_sums a, edgeline_sums b)
{
#if EDGELINE_SUMS >= 8 || defined(__SSE4_1__)
    return EDGELINE_MM(max_epi32)(a, b);
#else
    const __m128i larger = _mm_cmpgt_epi32(a, b);
    return _mm_or_si128(_mm_and_si128(larger, a), _mm_andnot_si128(larger, b));
#endif
}
EDGELINE_INLINE edgeline_x4 edgeline_x4_max(edgeline_x4 a, edgeline_x4 b) { return EDGELINE_MM(max_epu8)(a, b); }

EDGELINE_INLINE edgeline_factors edgeline_settled(edgeline_factors x)
{
    __asm__("" : EDGELINE_SETTLED(x));
    return x;
}

/* Rounds x, in steps of the grid, onto the grid: halves to even; NaN becomes the lowest. */
EDGELINE_INLINE edgeline_sums edgeline_onto(edgeline_factors x, const edgeline_grid *grid)
{
    x = EDGELINE_MM(max_ps)(x, EDGELINE_MM(set1_ps)((float)(grid->low - grid->zero_point)));
    x = EDGELINE_MM(min_ps)(x, EDGELINE_MM(set1_ps)((float)(grid->high - grid->zero_point)));
    return EDGELINE_MM(add_epi32)(EDGELINE_MM(cvtps_epi32)(x), EDGELINE_MM(set1_epi32)(grid->zero_point));
}
EDGELINE_INLINE edgeline_factors edgeline_times(edgeline_sums sum, edgeline_factors factor)
{
    return EDGELINE_MM(mul_ps)(EDGELINE_MM(cvtepi32_ps)(sum), factor);
}
EDGELINE_INLINE edgeline_factors edgeline_plus(edgeline_factors a, edgeline_factors b)
{
    return EDGELINE_MM(add_ps)(a, b);
}
EDGELINE_INLINE edgeline_factors edgeline_over(edgeline_factors a, edgeline_factors b)
{
    return EDGELINE_MM(div_ps)(a, b);
}

/* Bytes to lanes and back; `count` of them, all lanes at most. */
EDGELINE_INLINE edgeline_sums edgeline_bytes_load(const uint8_t *from)
{
#if EDGELINE_SUMS == 16
    return _mm512_cvtepu8_epi32(_mm_loadu_si128((const void *)from));
#elif EDGELINE_SUMS == 8
    return _mm256_cvtepu8_epi32(_mm_loadl_epi64((const void *)from));
#else
    int32_t four;
    memcpy(&four, from, sizeof four);
    const __m128i zero = _mm_setzero_si128();
    return _mm_unpacklo_epi16(_mm_unpacklo_epi8(_mm_cvtsi32_si128(four), zero), zero);
#endif
}
EDGELINE_INLINE void edgeline_bytes_store(uint8_t *to, edgeline_sums v, int count)
{
#if EDGELINE_SUMS == 16
    const __m128i bytes = _mm512_cvtepi32_epi8(v);
    if (count >= 16)
        _mm_storeu_si128((void *)to, bytes);
    else if (count > 0)
        _mm_mask_storeu_epi8(to, (__mmask16)((1u << count) - 1u), bytes);
#elif EDGELINE_SUMS == 8
    const __m128i pairs = _mm_packs_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
    const __m128i bytes = _mm_packus_epi16(pairs, pairs);
    if (count > 0) memcpy(to, &bytes, (size_t)(count < 8 ? count : 8));
#else
    const __m128i pairs = _mm_packs_epi32(v, v), bytes = _mm_packus_epi16(pairs, pairs);
    if (count > 0) memcpy(to, &bytes, (size_t)(count < 4 ? count : 4));
#endif
}
EDGELINE_INLINE edgeline_factors edgeline_floats_load_first(const float *from, int count)
{
    if (count >= EDGELINE_SUMS) return EDGELINE_MM(loadu_ps)(from);
#if EDGELINE_SUMS == 16
    return _mm512_maskz_loadu_ps((__mmask16)((1u << count) - 1u), from);
#else
    float lanes[EDGELINE_SUMS] = {0};
    memcpy(lanes, from, (size_t)count * sizeof(float));
    return EDGELINE_MM(loadu_ps)(lanes);
#endif
}
EDGELINE_INLINE void edgeline_floats_store(float *to, edgeline_factors v, int count)
{
    if (count >= EDGELINE_SUMS)
        EDGELINE_MM(storeu_ps)(to, v);
    else if (count > 0)
        memcpy(to, &v, (size_t)count * sizeof(float));
}

/* a | b << 8 * byte */
EDGELINE_INLINE edgeline_sums edgeline_with_byte(edgeline_sums a, edgeline_sums b, int byte)
{
    return EDGELINE_MM_BITS(or)(a, EDGELINE_MM(sll_epi32)(b, _mm_cvtsi32_si128(8 * byte)));
}
/* total + the lowest `count` bytes of each lane */
EDGELINE_INLINE edgeline_sums edgeline_add_bytes(edgeline_sums total, edgeline_sums v, int count)
{
    const int32_t ones = count >= 4 ? 0x01010101 : (1 << (8 * count)) / 255;
    return edgeline_dot4(total, v, EDGELINE_MM(set1_epi32)(ones));
}
/* Every byte of every lane by a table of 256. */
EDGELINE_INLINE edgeline_sums edgeline_looked_up(edgeline_sums v, const uint8_t *table)
{
#if EDGELINE_SUMS == 16 && defined(__AVX512VBMI__)
    const __m512i low = _mm512_permutex2var_epi8(_mm512_loadu_si512((const void *)table), v,
                                                 _mm512_loadu_si512((const void *)(table + 64)));
    const __m512i high = _mm512_permutex2var_epi8(_mm512_loadu_si512((const void *)(table + 128)), v,
                                                  _mm512_loadu_si512((const void *)(table + 192)));
    return _mm512_mask_blend_epi8(_mm512_movepi8_mask(v), low, high);
#else
    uint8_t bytes[4 * EDGELINE_SUMS];
    memcpy(bytes, &v, sizeof bytes);
    for (int i = 0; i < 4 * EDGELINE_SUMS; i++) bytes[i] = table[bytes[i]];
    memcpy(&v, bytes, sizeof bytes);
    return v;
#endif
}
/* The same for lanes that hold one byte. */
EDGELINE_INLINE edgeline_sums edgeline_looked_up_one(edgeline_sums v, const uint8_t *table)
{
#if EDGELINE_SUMS == 16 && defined(__AVX512VBMI__)
    return _mm512_and_si512(edgeline_looked_up(v, table), _mm512_set1_epi32(255));
#else
    int32_t lanes[EDGELINE_SUMS];
    memcpy(lanes, &v, sizeof lanes);
    for (int i = 0; i < EDGELINE_SUMS; i++) lanes[i] = table[lanes[i]];
    memcpy(&v, lanes, sizeof lanes);
    return v;
#endif
}

#else /* C99 alone */

#define EDGELINE_SUMS 1
#define EDGELINE_DOT_ROOM 16

typedef int32_t edgeline_sums;
typedef float edgeline_factors;
typedef struct {
    uint8_t n[4];
} edgeline_x4;
typedef struct {
    int8_t n[4];
} edgeline_w4;

EDGELINE_INLINE edgeline_sums edgeline_sums_zero(void) { return 0; }
EDGELINE_INLINE edgeline_sums edgeline_sums_all(int32_t n) { return n; }
EDGELINE_INLINE edgeline_sums edgeline_sums_load(const int32_t *from) { return *from; }
EDGELINE_INLINE edgeline_sums edgeline_sums_add(edgeline_sums a, edgeline_sums b) { return a + b; }
EDGELINE_INLINE edgeline_sums edgeline_products(edgeline_sums a, edgeline_sums b) { return a * b; }
EDGELINE_INLINE edgeline_factors edgeline_factors_load(const float *from) { return *from; }
EDGELINE_INLINE edgeline_factors edgeline_factors_all(float x) { return x; }

EDGELINE_INLINE edgeline_x4 edgeline_x4_load(const uint8_t *from)
{
    const edgeline_x4 four = {{from[0], from[1], from[2], from[3]}};
    return four;
}
EDGELINE_INLINE edgeline_x4 edgeline_x4_all(const uint8_t *from) { return edgeline_x4_load(from); }
EDGELINE_INLINE edgeline_w4 edgeline_w4_load(const int8_t *from)
{
    const edgeline_w4 four = {{from[0], from[1], from[2], from[3]}};
    return four;
}
EDGELINE_INLINE edgeline_w4 edgeline_w4_all(const int8_t *from) { return edgeline_w4_load(from); }

EDGELINE_INLINE edgeline_sums edgeline_dot4(edgeline_sums sum, edgeline_x4 x, edgeline_w4 w)
{
    for (int i = 0; i < 4; i++) sum += (x.n[i] - EDGELINE_DOT_OFFSET) * w.n[i];
    return sum;
}
EDGELINE_INLINE edgeline_sums edgeline_sums_max(edgeline_sums a, edgeline_sums b) { return a > b ? a : b; }
EDGELINE_INLINE edgeline_x4 edgeline_x4_max(edgeline_x4 a, edgeline_x4 b)
{
    for (int i = 0; i < 4; i++) a.n[i] = a.n[i] > b.n[i] ? a.n[i] : b.n[i];
    return a;
}

EDGELINE_INLINE edgeline_factors edgeline_settled(edgeline_factors x)
{
#if defined(__GNUC__) && defined(__SSE2__)
    __asm__("" : "+x"(x));
    return x;
#elif defined(__GNUC__) && defined(__aarch64__)
    __asm__("" : "+w"(x));
    return x;
#elif defined(__GNUC__)
    __asm__("" : "+m"(x));
    return x;
#else
    volatile float kept = x;
    return kept;
#endif
}

EDGELINE_INLINE edgeline_sums edgeline_onto(edgeline_factors x, const edgeline_grid *grid)
{
    const float low = (float)(grid->low - grid->zero_point), high = (float)(grid->high - grid->zero_point);
    const float magic = 12582912.0f; /* 1.5 * 2^23: adding it rounds to a whole number, halves to even */
    x = edgeline_settled(x);
    x = x > low ? x : low;
    x = x < high ? x : high;
    x = edgeline_settled(x + magic);
    return (int32_t)(x - magic) + grid->zero_point;
}
EDGELINE_INLINE edgeline_factors edgeline_times(edgeline_sums sum, edgeline_factors factor)
{
    return (float)sum * factor;
}
EDGELINE_INLINE edgeline_factors edgeline_plus(edgeline_factors a, edgeline_factors b) { return a + b; }
EDGELINE_INLINE edgeline_factors edgeline_over(edgeline_factors a, edgeline_factors b) { return a / b; }

EDGELINE_INLINE edgeline_sums edgeline_bytes_load(const uint8_t *from) { return *from; }
EDGELINE_INLINE void edgeline_bytes_store(uint8_t *to, edgeline_sums v, int count)
{
    if (count > 0) *to = (uint8_t)v;
}
EDGELINE_INLINE edgeline_factors edgeline_floats_load_first(const float *from, int count)
{
    (void)count;
    return *from;
}
EDGELINE_INLINE void edgeline_floats_store(float *to, edgeline_factors v, int count)
{
    if (count > 0) *to = v;
}

EDGELINE_INLINE edgeline_sums edgeline_with_byte(edgeline_sums a, edgeline_sums b, int byte)
{
    return (int32_t)((uint32_t)a | (uint32_t)b << (8 * byte));
}
EDGELINE_INLINE edgeline_sums edgeline_add_bytes(edgeline_sums total, edgeline_sums v, int count)
{
    for (int i = 0; i < count; i++) total += (int32_t)((uint32_t)v >> (8 * i) & 255u);
    return total;
}
EDGELINE_INLINE edgeline_sums edgeline_looked_up(edgeline_sums v, const uint8_t *table)
{
    const uint32_t bits = (uint32_t)v;
    return (int32_t)((uint32_t)table[bits & 255u] | (uint32_t)table[bits >> 8 & 255u] << 8 |
                     (uint32_t)table[bits >> 16 & 255u] << 16 | (uint32_t)table[bits >> 24] << 24);
}
EDGELINE_INLINE edgeline_sums edgeline_looked_up_one(edgeline_sums v, const uint8_t *table) { return table[v]; }

#endif

/* Fours that one load brings, of which a product takes one by its place (dot_neon.c): here one, in all lanes. */
#define EDGELINE_FOURS 1
typedef edgeline_x4 edgeline_fours_x;
typedef edgeline_w4 edgeline_fours_w;

EDGELINE_INLINE edgeline_fours_x edgeline_fours_of_x(const uint8_t *from, const int count)
{
    (void)count;
    return edgeline_x4_all(from);
}
EDGELINE_INLINE edgeline_fours_w edgeline_fours_of_w(const int8_t *from, const int count)
{
    (void)count;
    return edgeline_w4_all(from);
}

/* Sums that are still being added up. */
typedef edgeline_sums edgeline_dots;
EDGELINE_INLINE edgeline_dots edgeline_dots_from(edgeline_sums sums) { return sums; }
EDGELINE_INLINE edgeline_sums edgeline_dots_sums(edgeline_dots dots) { return dots; }
EDGELINE_INLINE edgeline_dots edgeline_dots_add(edgeline_dots a, edgeline_dots b) { return edgeline_sums_add(a, b); }
EDGELINE_INLINE edgeline_dots edgeline_dot4_by_x(edgeline_dots sum, edgeline_fours_x x, const int place, edgeline_w4 w)
{
    (void)place;
    return edgeline_dot4(sum, x, w);
}
EDGELINE_INLINE edgeline_dots edgeline_dot4_by_w(edgeline_dots sum, edgeline_x4 x, edgeline_fours_w w, const int place)
{
    (void)place;
    return edgeline_dot4(sum, x, w);
}
/* What the planar layer's copy of the input holds. */
EDGELINE_INLINE edgeline_x4 edgeline_x4_expanded(edgeline_x4 x) { return x; }

#endif
