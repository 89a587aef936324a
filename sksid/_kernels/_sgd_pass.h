/* The steps of the paper's stochastic iterations, Eqs. (18) and (19). Included once per (precision, instruction set) by
 * _variants.h. */

#define COLUMN(t) (columns ? (int64_t)columns[t] : (int64_t)(t))

/* An entry of the data, of either type, as a REAL */
INLINE REAL NAME(entry)(const sgd_level *P, int64_t t)
{
    return P->value_size == sizeof(double) ? (REAL)((const double *)P->values)[t] : (REAL)((const float *)P->values)[t];
}

/* to += factor * from */
INLINE void NAME(add)(REAL *to, REAL factor, const REAL *from, const int padded)
{
    if (padded == 1)
        to[0] += factor * from[0];
    else
        for (int l = 0; l < padded; l += LANES)
            *(NAME(vec) *)(to + l) += factor * *(const NAME(vec) *)(from + l);
}

/* out = x'T + b at step i, all features of the row caught up; summed in registers where `padded` is a constant */
INLINE void NAME(gather)(const sgd_level *P, const sgd_steps *S, int64_t row, int64_t i, const int padded, REAL *out)
{
    const int64_t first = P->indptr[row], nnz = P->indptr[row + 1] - first;
    const int32_t *columns = P->columns ? P->columns + first : NULL;
    const REAL *intercept = (const REAL *)P->table + P->n_features * P->width;
    REAL in_registers[IN_REGISTERS], *sums = padded <= IN_REGISTERS ? in_registers : out;
    for (int l = 0; l < padded; l++)
        sums[l] = P->fit_intercept ? intercept[l] : 0;
    for (int64_t t = 0; t < nnz; t++) {
        if (columns)
            NAME(fetch)(P, columns[t + AHEAD], padded);
        const REAL *w = NAME(catch_up)(P, S, COLUMN(t), i, padded);
        NAME(add)(sums, NAME(entry)(P, first + t), w, padded);
    }
    for (int l = 0; l < padded; l++)
        out[l] = sums[l];
}

/* Step i of the features in one row of its minibatch: the regularizer once, then the row's share of the data's gradient */
INLINE void NAME(scatter)(const sgd_level *P, const sgd_steps *S, int64_t row, int64_t i, REAL share, const int padded,
                           const REAL *slope)
{
    const int64_t first = P->indptr[row], nnz = P->indptr[row + 1] - first;
    const int32_t *columns = P->columns ? P->columns + first : NULL;
    for (int64_t t = 0; t < nnz; t++) {
        if (columns)
            NAME(fetch)(P, columns[t + AHEAD], padded);
        REAL *w = NAME(catch_up)(P, S, COLUMN(t), i + 1, padded);
        NAME(add)(w, -share * NAME(entry)(P, first + t), slope, padded);
    }
}

INLINE void NAME(descend_steps)(const sgd_level *P, const sgd_steps *S, const int padded, REAL *work)
{
    REAL *intercept = (REAL *)P->table + P->n_features * P->width, *slopes = work + padded;
    const REAL *constant = P->offset ? (const REAL *)P->offset + P->n_features * padded : NULL;
    for (int64_t i = 0; i < S->n_steps; i++) {
        const int64_t *rows = S->rows + S->starts[i], n = S->starts[i + 1] - S->starts[i];
        const REAL share = (REAL)(S->eta[i] / (double)n);
        for (int64_t r = 0; r < n; r++) {
            NAME(gather)(P, S, rows[r], i, padded, slopes + r * padded);
            NAME(slope)(P, rows[r], padded, slopes + r * padded, work);
        }
        for (int64_t r = 0; r < n; r++) {
            NAME(scatter)(P, S, rows[r], i, share, padded, slopes + r * padded);
            for (int l = 0; l < padded && P->fit_intercept; l++)
                intercept[l] -= share * slopes[r * padded + l];
        }
        for (int l = 0; l < padded && P->fit_intercept && constant; l++)
            intercept[l] += (REAL)S->eta[i] * constant[l];
    }
    for (int64_t j = 0; j < P->n_features; j++) {
        REAL *row = NAME(catch_up)(P, S, j, S->n_steps, padded);
        row[padded + 1] = 0; /* the next call counts from 0 */
    }
}

/* Take the steps, all features up to the last one. scratch has room for the outputs of the largest minibatch, and of
 * one row more. */
static void NAME(descend)(const sgd_level *P, const sgd_steps *S, void *scratch)
{
    const int padded = P->n_outputs == 1 ? 1 : PADDED(P->n_outputs);
    if (padded == 1)
        NAME(descend_steps)(P, S, 1, scratch);
    else if (padded == VEC)
        NAME(descend_steps)(P, S, VEC, scratch);
    else if (padded == 2 * VEC)
        NAME(descend_steps)(P, S, 2 * VEC, scratch);
    else if (padded == 3 * VEC)
        NAME(descend_steps)(P, S, 3 * VEC, scratch);
    else
        NAME(descend_steps)(P, S, padded, scratch);
}

#undef COLUMN
