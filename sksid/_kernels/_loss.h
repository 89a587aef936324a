/* The log loss of rows whose outputs stand output by output, as the deterministic solver has them: predictions, values, slopes
 * and curvature, docs/method.rst, Eqs. (1) and (3), in one pass over blocks of rows that stay in the cache. */
#ifndef SKSID_LOSS_H
#define SKSID_LOSS_H

#include <stdint.h>

#include "_layout.h"

#define BLOCK 64 /* rows of a block */

/* Arrays (n_splits, n_outputs, n_rows), a row beside the next: the steps from split to split and from output to output are in
 * reals. The result is C-contiguous. */
typedef struct {
    const void *first;     /* REAL: outputs z, or predictions p */
    const void *second;    /* REAL: directions t; NULL where there are none */
    const int32_t *labels; /* of row i in split k: labels[k * label_split + i]; NULL where nobody asks */
    void *out;             /* REAL */
    int64_t n_splits, n_rows;
    int64_t first_split, first_output, second_split, second_output, label_split;
    int n_outputs, real_size;
} loss_rows;

#define ROW_KERNEL "_loss_block.h"
#define PASS_KERNEL "_loss_pass.h"
#include "_variants.h"

static void loss_predictions(const loss_rows *P) { VARIANT(predictions, P)(P); }
static void loss_values(const loss_rows *P) { VARIANT(values, P)(P); }
static void loss_slopes(const loss_rows *P) { VARIANT(slopes, P)(P); }
static void loss_curved(const loss_rows *P) { VARIANT(curved, P)(P); }
#endif
