/* The dual solver's kernels: the row kernels of _dual_rows.h for float and double, each compiled for the baseline
 * and, on x86-64, once more for AVX2 + FMA; dual_*() choose between them by the real's size and the processor.
 * The second copy is made with a target pragma, not with a build flag, so that a wheel runs everywhere. */
#ifndef SKSID_DUAL_H
#define SKSID_DUAL_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum { UNUSED = 0, TRAIN = 1, VALIDATION = 2 };
enum { LOOK, MEASURE, UPDATE }; /* what to do with a row: its validation loss; all sums; all but MEASURE's, and its step */

#define MAX_NEWTON 40
#define MAX_HALVING 30
#define VEC 8
#define LINE ((int)(64 / sizeof(REAL)))
#define LANES ((int)(SIMD / sizeof(REAL)))
#define PAIR 2   /* the width of a table with one lane and no adjoint */
#define PADDED(n) (((n) + VEC - 1) / VEC * VEC)
#define AHEAD 8  /* entries between a wide row's prefetch and its use */
#define PREFETCH(address) __builtin_prefetch(address, 1, 3)

/* What a pass sums up in each split, every row before its own update. */
enum {
    VALIDATION_LOSS,   /* s_i / sum(s) loss, validation rows */
    VALIDATION_WEIGHT, /* s_i / sum(s), the same rows */
    TRAIN_LOSS,        /* s_i loss, training rows (MEASURE only) */
    TRAIN_WEIGHT,      /* s_i, the same rows */
    GAP,               /* s_i KL(p_beta || p): the duality gap as Fenchel and Young have it (MEASURE only) */
    CURVATURE,         /* s_i d_i / (1 + q_i d_i), d the mean diagonal of D: how stiff the intercept is */
    LOWER_RESIDUAL,    /* s_i |p_i - e_y - beta_i|^2 */
    ADJOINT_RESIDUAL,  /* s_i |D_i r_i - u_i|^2 */
    LOWER_SIZE,        /* s_i |beta_i|^2, training rows */
    ADJOINT_SIZE,      /* s_i |u_i|^2 */
    N_SUMS
};

typedef struct {
    const int64_t *indptr;   /* (n_rows + 1,) */
    const int32_t *columns;  /* (nnz + AHEAD + 1,), or NULL: dense rows */
    const void *values;      /* (nnz,) real */
    const int32_t *labels;   /* (n_rows,) */
    const int8_t *roles;     /* (n_rows, n_splits) */
    const void *weights;     /* (n_rows,) real */
    const void *train_scale; /* (n_classes, n_splits) real: a training row weighs weights * train_scale */
    const void *val_scale;   /* (n_splits,) real: 1 / sum of the validation weights */
    int64_t n_features;
    int n_splits, n_outputs, fit_intercept, real_size;
} dual_problem;

typedef struct {
    void *table;       /* (n_features + 1, width) real, beginning on a cache line */
    void *duals;       /* (n_rows, n_sides, n_lanes) real: beta (gamma in validation rows), u */
    double *residuals; /* (n_rows, 2): LOWER_RESIDUAL and ADJOINT_RESIDUAL of each row when last visited */
    double *imbalance; /* (n_sides, n_lanes): sum s beta;  sum s u - sum gamma s / sum(s). Zero at the optimum */
    int64_t width;
    int n_sides;       /* 2: lower level and adjoint; 1: lower level alone */
    double drift;      /* the share of imbalance / mu by which b_ref moves for each row visited */
} dual_state;

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
#include "_dual_rows.h"
#undef NAME
#undef SIMD
#ifdef __x86_64__
#pragma GCC push_options
#pragma GCC target("avx2,fma,bmi,bmi2")
#define NAME(f) f##_f32_avx2
#define SIMD 32
#include "_dual_rows.h"
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
#include "_dual_rows.h"
#undef NAME
#undef SIMD
#ifdef __x86_64__
#pragma GCC push_options
#pragma GCC target("avx2,fma,bmi,bmi2")
#define NAME(f) f##_f64_avx2
#define SIMD 32
#include "_dual_rows.h"
#undef NAME
#undef SIMD
#pragma GCC pop_options
#endif

#ifdef __x86_64__
#define HAS_AVX2 (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
#define DISPATCH(f, ...)                       \
    do {                                       \
        const int wide = HAS_AVX2;             \
        if (P->real_size == 4 && wide)         \
            f##_f32_avx2(__VA_ARGS__);         \
        else if (P->real_size == 4)            \
            f##_f32(__VA_ARGS__);              \
        else if (wide)                         \
            f##_f64_avx2(__VA_ARGS__);         \
        else                                   \
            f##_f64(__VA_ARGS__);              \
    } while (0)
#else
#define DISPATCH(f, ...)                       \
    do {                                       \
        if (P->real_size == 4)                 \
            f##_f32(__VA_ARGS__);              \
        else                                   \
            f##_f64(__VA_ARGS__);              \
    } while (0)
#endif

static void dual_advance(const dual_problem *P, dual_state *S, const int64_t *blocks, int64_t n_blocks,
                         int64_t block_size, int64_t n_rows, void *scratch, double *sums)
{
    DISPATCH(advance, P, S, blocks, n_blocks, block_size, n_rows, scratch, sums);
}

static void dual_evaluate(const dual_problem *P, dual_state *S, int64_t start, int64_t stop, int task, void *scratch,
                          double *sums)
{
    DISPATCH(evaluate, P, S, start, stop, task, scratch, sums);
}

static void dual_rebuild(const dual_problem *P, dual_state *S, int64_t start, int64_t stop, void *scratch)
{
    DISPATCH(rebuild, P, S, start, stop, scratch);
}

static void dual_rescale(const dual_problem *P, dual_state *S, const double *penalties, double shrink)
{
    DISPATCH(rescale, P, S, penalties, shrink);
}

static void dual_contract(const dual_problem *P, const dual_state *S, double *inner)
{
    DISPATCH(contract, P, S, inner);
}
#endif
