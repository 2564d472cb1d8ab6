/* The instruction set that this file is compiled for: the one that the kernels choose by the same macros. */

#if defined(__ARM_ARCH_PROFILE) && __ARM_ARCH_PROFILE == 'M'
#if defined(__ARM_FEATURE_MVE)
#define EDGELINE_ISA "helium"
#elif defined(__ARM_FEATURE_DSP)
#define EDGELINE_ISA "armv7e-m"
#else
#define EDGELINE_ISA "armv6-m"
#endif
#elif !defined(__GNUC__) || defined(EDGELINE_SCALAR) || defined(__ARM_BIG_ENDIAN) || \
    (defined(__x86_64__) && EDGELINE_BLOCK < 16)
#define EDGELINE_ISA "c99"
#elif defined(__AVX512F__) && defined(__AVX512VNNI__)
#define EDGELINE_ISA "avx512-vnni"
#elif defined(__AVX512F__)
#define EDGELINE_ISA "avx512"
#elif defined(__AVX2__)
#define EDGELINE_ISA "avx2"
#elif defined(__SSE2__)
#define EDGELINE_ISA "sse2"
#elif defined(__aarch64__) && defined(__ARM_FEATURE_MATMUL_INT8) && defined(__ARM_FEATURE_DOTPROD)
#define EDGELINE_ISA "neon-i8mm"
#elif defined(__aarch64__) && defined(__ARM_FEATURE_DOTPROD)
#define EDGELINE_ISA "neon-dotprod"
#elif defined(__aarch64__) || defined(__ARM_NEON)
#define EDGELINE_ISA "neon"
#else
#define EDGELINE_ISA "c99"
#endif
