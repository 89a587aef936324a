/* Every size and code that C and Python agree on. Python reads them from the module sksid._kernels._layout. */
#ifndef SKSID_LAYOUT_H
#define SKSID_LAYOUT_H

#include <stddef.h>
#include <stdint.h>

/* What a row is in a split. */
enum { UNUSED = 0, TRAIN = 1, VALIDATION = 2 };

#define CACHE_LINE 64 /* bytes; a row of the table begins on one and fills whole ones */
#define PAIR 2        /* reals in a row of the table where it holds one vector alone: W_j, 1/lambda_j */
#define VEC 8         /* sums over a row are kept in so many parts, and short arrays padded to a multiple of them */
#define AHEAD 8       /* entries between the prefetch of a feature and its use: columns go on for so many behind the last */

/* What a pass of the dual solver sums up in each split, every row before its own update: SUM(code, name). */
#define DUAL_SUMS(SUM)                                                                                                      \
    SUM(VALIDATION_LOSS, "validation_loss")     /* s_i / sum(s) loss, validation rows */                                    \
    SUM(VALIDATION_WEIGHT, "validation_weight") /* s_i / sum(s), the same rows */                                           \
    SUM(TRAIN_LOSS, "train_loss")               /* s_i loss, training rows (MEASURE only) */                                \
    SUM(TRAIN_WEIGHT, "train_weight")           /* s_i, the same rows */                                                    \
    SUM(GAP, "gap")                             /* s_i KL(p_beta || p), the duality gap, Eq. (15) (MEASURE only) */         \
    SUM(CURVATURE, "curvature")                 /* s_i d_i / (1 + q_i d_i), d the mean diagonal of D: of the intercept */   \
    SUM(LOWER_RESIDUAL, "lower_residual")       /* s_i |p_i - e_y - beta_i|^2 */                                            \
    SUM(ADJOINT_RESIDUAL, "adjoint_residual")   /* s_i |D_i r_i - u_i|^2 */                                                 \
    SUM(LOWER_SIZE, "lower_size")               /* s_i |beta_i|^2, training rows */                                         \
    SUM(ADJOINT_SIZE, "adjoint_size")           /* s_i |u_i|^2 */

#define SUM_CODE(code, name) code,
#define SUM_NAME(code, name) name,
enum { DUAL_SUMS(SUM_CODE) N_SUMS };
static const char *const dual_sum_names[] = {DUAL_SUMS(SUM_NAME)};

#define PADDED_TO(unit, n) (((n) + (unit) - 1) / (unit) * (unit))
#define PADDED(n) PADDED_TO(VEC, n) /* in the type of n: compilers see that the last bits are zero, and vectorize */

/* Reals in a row of the dual solver's table: n_used of W_j and V_j, n_inverses of 1/lambda_j, padding. */
static inline int64_t layout_dual_width(int64_t n_used, int64_t n_inverses, int64_t real_size)
{
    return n_used == 1 ? PAIR : PADDED_TO(CACHE_LINE, (n_used + n_inverses) * real_size) / real_size;
}

/* Reals that the dual solver works in: see place_row of _dual_row.h. */
static inline int64_t layout_dual_scratch(int64_t width, int64_t n_classes, int64_t n_splits, int64_t n_outputs)
{
    const int64_t of_width = 8 * width + 4 * VEC, of_splits = (4 + N_SUMS) * PADDED(n_splits) + 2 * (VEC + 1) * n_splits;
    return of_width + of_splits + 12 * PADDED(n_outputs) + (n_classes + 1) * n_splits;
}

/* Reals of W_j in sgd's table: one for two classes, else the outputs padded. */
static inline int64_t layout_sgd_outputs(int64_t n_outputs) { return n_outputs == 1 ? 1 : PADDED(n_outputs); }

/* Reals in a row of it: W_j, lambda_j / S, the first step not yet taken, padding. */
static inline int64_t layout_sgd_width(int64_t n_outputs)
{
    return PADDED_TO(n_outputs == 1 ? 4 : VEC, layout_sgd_outputs(n_outputs) + 2);
}
#endif
