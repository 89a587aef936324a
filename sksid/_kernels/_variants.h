/* Compiles kernels in all their variants: ROW_KERNEL and PASS_KERNEL are included for both precisions REAL of the state and, on
 * x86-64, for the baseline and for AVX2 + FMA. The second instruction set is a target pragma, not a build flag, so that one wheel
 * runs everywhere. NAME(f) is f's name in a variant, such as f_f32_base. */
#include <math.h>
#include <string.h>

#include "_compiler.h"
#include "_layout.h"

#define JOIN_3(f, a, b) f##_##a##_##b
#define EXPAND_3(f, a, b) JOIN_3(f, a, b)
#define NAME(f) EXPAND_3(f, REAL_TAG, SET_TAG)

#define LINE ((int)(CACHE_LINE / sizeof(REAL)))
#define LANES ((int)(SIMD / sizeof(REAL))) /* reals in a register */

#define SET_TAG base
#define SIMD (HAS_VECTORS ? 16 : (int)sizeof(REAL)) /* bytes in a register */
#include "_precisions.h"
#undef SET_TAG
#undef SIMD

#if HAS_AVX2
#ifdef __clang__
#pragma clang attribute push(__attribute__((target("avx2,fma,bmi,bmi2"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma,bmi,bmi2")
#endif
#define SET_TAG avx2
#define SIMD 32
#include "_precisions.h"
#undef SET_TAG
#undef SIMD
#ifdef __clang__
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#endif

/* The variant of f for P's precision and this processor, to be called. */
#define OF_REAL(f, P, set) ((P)->real_size == 4 ? f##_f32_##set : f##_f64_##set)
#if HAS_AVX2
#define VARIANT(f, P) (use_avx2 ? OF_REAL(f, P, avx2) : OF_REAL(f, P, base))
#else
#define VARIANT(f, P) OF_REAL(f, P, base)
#endif
