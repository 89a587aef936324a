/* A block of n <= BLOCK rows of one split: the loss of Eq. (1) and its derivatives in the outputs. Loops over rows are plain, for
 * the compiler to vectorize; x and y are outputs, predictions or directions, of which one output lies x_step or y_step behind
 * the other. Included by _variants.h alone. */

#include "_vectors.h"

#define EACH(r) for (int r = 0; r < n; r++)

/* The largest of each row's outputs */
INLINE void NAME(block_top)(const REAL *restrict z, int64_t z_step, int n_outputs, int n, REAL *restrict top)
{
    EACH(r) top[r] = z[r];
    for (int c = 1; c < n_outputs; c++)
        EACH(r) top[r] = z[c * z_step + r] > top[r] ? z[c * z_step + r] : top[r];
}

/* p = softmax(z); of one output sigma(z) */
INLINE void NAME(block_predictions)(const REAL *restrict z, int64_t z_step, int n_outputs, int n, REAL *restrict p,
                                    int64_t p_step)
{
    REAL top[BLOCK], sum[BLOCK];
    if (n_outputs == 1) {
        EACH(r)
        {
            const REAL small = NAME(exp_neg)(z[r] < 0 ? z[r] : -z[r]);
            p[r] = (z[r] < 0 ? small : 1) / (1 + small);
        }
        return;
    }
    NAME(block_top)(z, z_step, n_outputs, n, top);
    EACH(r) sum[r] = 0;
    for (int c = 0; c < n_outputs; c++)
        EACH(r)
        {
            const REAL e = NAME(exp_neg)(z[c * z_step + r] - top[r]);
            p[c * p_step + r] = e;
            sum[r] += e;
        }
    EACH(r) sum[r] = 1 / sum[r];
    for (int c = 0; c < n_outputs; c++)
        EACH(r) p[c * p_step + r] *= sum[r];
}

/* l = log sum exp(z) - z_label; the sum is without its largest term, so that a small loss is accurate. Of one output
 * log(1 + exp(-|m|)) + max(-m, 0) with m = z or -z. */
INLINE void NAME(block_values)(const REAL *restrict z, int64_t z_step, int n_outputs, int n, const int32_t *restrict labels,
                               REAL *restrict loss)
{
    REAL top[BLOCK], own[BLOCK], sum[BLOCK] = {0};
    INT best[BLOCK];
    if (n_outputs == 1) {
        EACH(r) own[r] = labels[r] == 1 ? z[r] : -z[r];
        EACH(r) sum[r] = NAME(exp_neg)(own[r] < 0 ? own[r] : -own[r]);
        for (int r = 0; r < n; r += LANES)
            *(NAME(vec) *)(sum + r) = NAME(log_one_plus)(*(NAME(vec) *)(sum + r));
        EACH(r) loss[r] = (own[r] < 0 ? -own[r] : 0) + sum[r];
        return;
    }
    NAME(block_top)(z, z_step, n_outputs, n, top);
    EACH(r) best[r] = -1, own[r] = 0;
    for (int c = 0; c < n_outputs; c++)
        EACH(r)
        {
            const REAL here = z[c * z_step + r], e = NAME(exp_neg)(here - top[r]);
            const INT first = (best[r] < 0) & (here == top[r]);
            best[r] = first ? c : best[r];
            sum[r] += first ? 0 : e;
            own[r] = labels[r] == c ? here : own[r];
        }
    EACH(r) loss[r] = (top[r] - own[r]) + LOG1P(sum[r]);
}

/* p - e_label; the label's entry is summed from the others, exact where it is nearly 0 */
INLINE void NAME(block_slopes)(const REAL *restrict p, int64_t p_step, int n_outputs, int n, const int32_t *restrict labels,
                               REAL *restrict out, int64_t out_step)
{
    REAL sum[BLOCK];
    if (n_outputs == 1) {
        EACH(r) out[r] = p[r] - (labels[r] == 1);
        return;
    }
    EACH(r) sum[r] = 0;
    for (int c = 0; c < n_outputs; c++)
        EACH(r)
        {
            const REAL other = labels[r] == c ? 0 : p[c * p_step + r];
            out[c * out_step + r] = other;
            sum[r] += other;
        }
    for (int c = 0; c < n_outputs; c++)
        EACH(r) out[c * out_step + r] = labels[r] == c ? -sum[r] : out[c * out_step + r];
}

/* (diag p - p p') t. Where p is nearly e_c, the first mean's rounding is of the size of the result: a second one takes it out. */
INLINE void NAME(block_curved)(const REAL *restrict p, int64_t p_step, const REAL *restrict t, int64_t t_step, int n_outputs,
                               int n, REAL *restrict out, int64_t out_step)
{
    REAL mean[BLOCK], total[BLOCK], rest[BLOCK];
    if (n_outputs == 1) {
        EACH(r) out[r] = p[r] * (1 - p[r]) * t[r];
        return;
    }
    EACH(r) mean[r] = 0, total[r] = 0, rest[r] = 0;
    for (int c = 0; c < n_outputs; c++)
        EACH(r)
        {
            mean[r] += p[c * p_step + r] * t[c * t_step + r];
            total[r] += p[c * p_step + r];
        }
    EACH(r) mean[r] /= total[r];
    for (int c = 0; c < n_outputs; c++)
        EACH(r) rest[r] += p[c * p_step + r] * (t[c * t_step + r] - mean[r]);
    EACH(r) rest[r] /= total[r];
    for (int c = 0; c < n_outputs; c++)
        EACH(r) out[c * out_step + r] = p[c * p_step + r] * ((t[c * t_step + r] - mean[r]) - rest[r]);
}
