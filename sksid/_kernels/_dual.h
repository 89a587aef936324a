/* The dual solver's kernels, of _dual_rows.h, in their variants. */
#ifndef SKSID_DUAL_H
#define SKSID_DUAL_H

#include <stdint.h>

enum { UNUSED = 0, TRAIN = 1, VALIDATION = 2 };
enum { LOOK, MEASURE, UPDATE }; /* what to do with a row: its validation loss; all sums; all but MEASURE's, and its step */

#define PAIR 2   /* the width of a table with one lane and no adjoint */
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
    double *residuals; /* (n_rows, 2) of each row when last visited: LOWER_RESIDUAL; of two sides ADJOINT_RESIDUAL, of one
                        * MOVE, the squared change q^2 |beta_i+ - beta_i|^2 of its outputs z by the visit */
    double *imbalance; /* (n_sides, n_lanes): sum s beta;  sum s u - sum gamma s / sum(s). Zero at the optimum */
    int64_t width;
    int n_sides;       /* 2: lower level and adjoint; 1: lower level alone */
    double drift;      /* the share of imbalance / mu by which b_ref moves for each row visited */
    const int64_t *free; /* (n_free,) features without a penalty */
    void *reference;     /* (n_free, n_sides * n_lanes) real: their W_ref, V_ref; mu (W_ref - W) is their imbalance */
    int64_t n_free;
} dual_state;

#define ROWS "_dual_rows.h"
#include "_variants.h"

static void dual_advance(const dual_problem *P, dual_state *S, const int64_t *blocks, int64_t n_blocks,
                         int64_t block_size, int64_t n_rows, void *scratch, double *sums)
{
    DISPATCH(advance, P->real_size, P, S, blocks, n_blocks, block_size, n_rows, scratch, sums);
}

static void dual_evaluate(const dual_problem *P, dual_state *S, int64_t start, int64_t stop, int task, void *scratch,
                          double *sums)
{
    DISPATCH(evaluate, P->real_size, P, S, start, stop, task, scratch, sums);
}

static void dual_rebuild(const dual_problem *P, dual_state *S, int64_t start, int64_t stop, void *scratch)
{
    DISPATCH(rebuild, P->real_size, P, S, start, stop, scratch);
}

static void dual_rescale(const dual_problem *P, dual_state *S, const double *penalties, double shrink)
{
    DISPATCH(rescale, P->real_size, P, S, penalties, shrink);
}

static void dual_contract(const dual_problem *P, const dual_state *S, double *inner)
{
    DISPATCH(contract, P->real_size, P, S, inner);
}
#endif
