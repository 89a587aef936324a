/* The variants of a row kernel: includes the file that ROWS names for float and double, each compiled for the baseline and, on
 * x86-64, once more for AVX2 + FMA; DISPATCH(f, real_size, arguments) chooses between them by the real's size and the
 * processor. The second copy is made with a target pragma, not with a build flag, so that a wheel runs everywhere. */
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define MAX_NEWTON 40
#define MAX_HALVING 30
#define VEC 8
#define LINE ((int)(64 / sizeof(REAL)))
#define LANES ((int)(SIMD / sizeof(REAL)))
#define PADDED(n) (((n) + VEC - 1) / VEC * VEC)
#define COLUMN(t) (columns ? (int64_t)columns[t] : (int64_t)(t))

#define REAL float
#define INT int32_t
#define EXP_BIAS 127
#define EXP_SHIFT 23
#define EXP_FLOOR (-87.0f)
#define ROUNDER 12582912.0f
#define NEWTON_TOL 1e-3f
#define ROUNDING 1e-6f
#define PADDING (-1e30f)
#define ARTANH_TERMS 7
#define log_f32 logf
#define log_f32_avx2 logf
#define EXP_TAYLOR(r) \
    (1 + r * (1 + r * (0.5f + r * (1 / 6.f + r * (1 / 24.f + r * (1 / 120.f + r * (1 / 720.f)))))))
#define NAME(f) f##_f32
#define SIMD 16
#include ROWS
#undef NAME
#undef SIMD
#ifdef __x86_64__
#pragma GCC push_options
#pragma GCC target("avx2,fma,bmi,bmi2")
#define NAME(f) f##_f32_avx2
#define SIMD 32
#include ROWS
#undef NAME
#undef SIMD
#pragma GCC pop_options
#endif
#undef REAL
#undef INT
#undef EXP_BIAS
#undef EXP_SHIFT
#undef EXP_FLOOR
#undef ROUNDER
#undef NEWTON_TOL
#undef ROUNDING
#undef PADDING
#undef ARTANH_TERMS
#undef EXP_TAYLOR

#define REAL double
#define INT int64_t
#define EXP_BIAS 1023
#define EXP_SHIFT 52
#define EXP_FLOOR (-708.0)
#define ROUNDER 6755399441055744.0
#define NEWTON_TOL 1e-6
#define ROUNDING 1e-14
#define PADDING (-1e300)
#define ARTANH_TERMS 16
#define log_f64 log
#define log_f64_avx2 log
#define EXP_TAYLOR(r) \
    (1 + r * (1 + r * (0.5 + r * (1 / 6. + r * (1 / 24. + r * (1 / 120. + r * (1 / 720. + r * (1 / 5040. + \
    r * (1 / 40320. + r * (1 / 362880. + r * (1 / 3628800. + r * (1 / 39916800. + r / 479001600.))))))))))))
#define NAME(f) f##_f64
#define SIMD 16
#include ROWS
#undef NAME
#undef SIMD
#ifdef __x86_64__
#pragma GCC push_options
#pragma GCC target("avx2,fma,bmi,bmi2")
#define NAME(f) f##_f64_avx2
#define SIMD 32
#include ROWS
#undef NAME
#undef SIMD
#pragma GCC pop_options
#endif

#ifdef __x86_64__
#define HAS_AVX2 (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
#define DISPATCH(f, real_size, ...)            \
    do {                                       \
        const int wide = HAS_AVX2;             \
        if ((real_size) == 4 && wide)          \
            f##_f32_avx2(__VA_ARGS__);         \
        else if ((real_size) == 4)             \
            f##_f32(__VA_ARGS__);              \
        else if (wide)                         \
            f##_f64_avx2(__VA_ARGS__);         \
        else                                   \
            f##_f64(__VA_ARGS__);              \
    } while (0)
#else
#define DISPATCH(f, real_size, ...)            \
    do {                                       \
        if ((real_size) == 4)                  \
            f##_f32(__VA_ARGS__);              \
        else                                   \
            f##_f64(__VA_ARGS__);              \
    } while (0)
#endif
