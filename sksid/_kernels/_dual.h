/* The dual solver's kernels, Eqs. (6) to (15), of _dual_row.h and _dual_pass.h, in their variants. */
#ifndef SKSID_DUAL_H
#define SKSID_DUAL_H

#include <stdint.h>

#include "_layout.h"

enum { LOOK, MEASURE, UPDATE }; /* what to do with a row: its validation loss; all sums; all but MEASURE's, and its step */

typedef struct {
    const int64_t *indptr;     /* (n_rows + 1,) */
    const int32_t *columns;    /* (nnz + AHEAD,), or NULL: dense rows */
    const void *values;        /* (nnz,) float or double */
    const int32_t *labels;     /* (n_rows, 1) or (n_rows, n_splits) */
    const int8_t *roles;       /* (n_rows, n_splits) */
    const double *weights;     /* (n_rows,) */
    const double *train_scale; /* (n_classes, n_splits): a training row weighs weights * train_scale */
    const double *val_scale;   /* (n_splits,): 1 / sum of the validation weights */
    int64_t n_rows, n_features;
    int n_classes, n_splits, n_outputs, fit_intercept;
    int label_step;            /* 1 where every split has labels of its own, else 0 */
    int value_size, real_size; /* bytes of an entry of the data and of a real of the state */
} dual_problem;

typedef struct {
    void *table;       /* (n_features + 1, width) REAL */
    void *duals;       /* (n_rows, n_sides, n_vectors) REAL: beta (gamma in validation rows), u */
    double *residuals; /* (n_rows, 2) of each row when last visited: LOWER_RESIDUAL; of two sides ADJOINT_RESIDUAL, of one
                        * MOVE, the squared change q^2 |beta_i+ - beta_i|^2 of its outputs z by the visit */
    double *imbalance; /* (n_sides, n_vectors): sum s beta;  sum s u - sum gamma s / sum(s). Zero at the optimum */
    int64_t width;
    int n_sides;                /* 2: lower level and adjoint; 1: lower level alone */
    int n_inverses;             /* 1/lambda_j in a row of the table: n_splits where penalties differ by split, else 1 */
    double reference_step;      /* the share of imbalance / mu by which b_ref moves for each row visited */
    const int64_t *unpenalized; /* (n_unpenalized,) features without a penalty */
    void *reference;            /* (n_unpenalized, n_sides * n_vectors) REAL: their W_ref, V_ref; mu (W_ref - W) is their
                                 * imbalance */
    int64_t n_unpenalized;
} dual_state;

#define ROW_KERNEL "_dual_row.h"
#define PASS_KERNEL "_dual_pass.h"
#include "_variants.h"

static void dual_advance(const dual_problem *P, dual_state *S, const int64_t *blocks, int64_t n_blocks, int64_t block_size,
                         void *scratch, double *sums)
{
    VARIANT(advance, P)(P, S, blocks, n_blocks, block_size, scratch, sums);
}

static void dual_evaluate(const dual_problem *P, dual_state *S, int64_t start, int64_t stop, int task, void *scratch,
                          double *sums)
{
    VARIANT(evaluate, P)(P, S, start, stop, task, scratch, sums);
}

static void dual_rebuild(const dual_problem *P, dual_state *S, int64_t start, int64_t stop, void *scratch)
{
    VARIANT(rebuild, P)(P, S, start, stop, scratch);
}

static void dual_rescale(const dual_problem *P, dual_state *S, const double *penalties, double shrink)
{
    VARIANT(rescale, P)(P, S, penalties, shrink);
}

static void dual_contract(const dual_problem *P, const dual_state *S, double *inner)
{
    VARIANT(contract, P)(P, S, inner);
}
#endif
