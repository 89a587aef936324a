/* The losses of Eq. (1) of all rows of all splits, block by block. Included by _variants.h alone. */

#define EACH_BLOCK(P, k, i)                     \
    for (int64_t k = 0; k < (P)->n_splits; k++) \
        for (int64_t i = 0; i < (P)->n_rows; i += BLOCK)
#define ROWS(P, i) ((int)((P)->n_rows - (i) < BLOCK ? (P)->n_rows - (i) : BLOCK))

/* Where a block's first output stands; in the result, behind ``size`` arrays of rows for each split before it */
#define FIRST(P, k, i) ((const REAL *)(P)->first + (k) * (P)->first_split + (i))
#define SECOND(P, k, i) ((const REAL *)(P)->second + (k) * (P)->second_split + (i))
#define LABELS(P, k, i) ((P)->labels + (k) * (P)->label_split + (i))
#define OUT(P, k, i, size) ((REAL *)(P)->out + (k) * (size) * (P)->n_rows + (i))

static void NAME(predictions)(const loss_rows *P)
{
    const int K = P->n_outputs;
    EACH_BLOCK(P, k, i)
    NAME(block_predictions)(FIRST(P, k, i), P->first_output, K, ROWS(P, i), OUT(P, k, i, K), P->n_rows);
}

static void NAME(values)(const loss_rows *P)
{
    EACH_BLOCK(P, k, i)
    NAME(block_values)(FIRST(P, k, i), P->first_output, P->n_outputs, ROWS(P, i), LABELS(P, k, i), OUT(P, k, i, 1));
}

static void NAME(slopes)(const loss_rows *P)
{
    const int K = P->n_outputs;
    EACH_BLOCK(P, k, i)
    NAME(block_slopes)(FIRST(P, k, i), P->first_output, K, ROWS(P, i), LABELS(P, k, i), OUT(P, k, i, K), P->n_rows);
}

static void NAME(curved)(const loss_rows *P)
{
    const int K = P->n_outputs;
    EACH_BLOCK(P, k, i)
    NAME(block_curved)(FIRST(P, k, i), P->first_output, SECOND(P, k, i), P->second_output, K, ROWS(P, i), OUT(P, k, i, K),
                       P->n_rows);
}
