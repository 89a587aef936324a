/* The logistic loss of one row: softmax, curvature, and the one-row solves of the dual solver (docs/method.rst, the dual
 * solver). Included by the row kernels, once per variant. Arrays of outputs are padded to VEC; all sums over them are kept in
 * VEC parts, so that they vectorize as they stand, in one order whatever the instruction set. */

#include "_vectors.h"

#define MAX_NEWTON 40
#define MAX_HALVING 30

static inline REAL NAME(total)(const REAL *part)
{
    return ((part[0] + part[4]) + (part[2] + part[6])) + ((part[1] + part[5]) + (part[3] + part[7]));
}

static inline REAL NAME(largest)(const REAL *part)
{
    REAL m = part[0];
    for (int l = 1; l < VEC; l++)
        m = NAME(max)(m, part[l]);
    return m;
}

static inline REAL NAME(dot)(const REAL *x, const REAL *y, int n)
{
    REAL part[VEC] = {0};
    for (int k = 0; k < n; k += VEC)
        for (int l = 0; l < VEC; l++)
            part[l] += x[k + l] * y[k + l];
    return NAME(total)(part);
}

/* What solve_logistic finds: the new duals, and beta, curvature and loss log(1 + exp(-s a)) at a. */
typedef struct {
    NAME(vec) beta, u, beta_at_a, curvature_at_a, loss_at_a;
} NAME(logistic);

/* Solves  z + q (sigma(z) - y) = a + q beta,  Eq. (7), for a register of splits, then the adjoint's dual at the new z,
 * Eq. (11).
 * With s = +1 for y = 1 and -1 for y = 0, m = s z solves  f(m) = m - q sigma(-m) - s c = 0, f increasing, concave
 * for m > 0 and convex for m < 0: Newton kept on the root's side of 0 is monotone after its first step.
 * q = 0 (validation and unused rows) returns z = a, beta = sigma(a) - y. */
static inline NAME(logistic) NAME(solve_logistic)(NAME(vec) a, NAME(vec) r, NAME(vec) q, NAME(vec) beta, NAME(vec) u,
                                                  NAME(vec) s)
{
    NAME(logistic) out;
    const NAME(vec) zero = NAME(every)(0), c = s * (a + q * beta);
    const NAME(mask) right = NAME(less)(zero, (REAL)0.5 * q + c), fixed = ~NAME(less)(zero, q);
    const NAME(vec) low = NAME(pick)(right & NAME(less)(c, zero), zero, c);
    const NAME(vec) high = NAME(pick)(~right & NAME(less)(zero, c + q), zero, c + q);
    NAME(vec) m = s * a, e = NAME(exp_minus_abs)(m), sig = NAME(sigmoid)(-m, e);
    out.beta_at_a = -s * sig;
    out.curvature_at_a = sig * ((REAL)1 - sig);
    out.loss_at_a = NAME(pick)(NAME(less)(m, zero), -m, zero) + NAME(log_one_plus)(e);
    for (int iteration = 0; iteration < MAX_NEWTON; iteration++) {
        const NAME(vec) f = m - q * sig - c, slope = (REAL)1 + q * sig * ((REAL)1 - sig);
        NAME(vec) next = m - f / slope;
        next = NAME(pick)(NAME(less)(next, low), low, next);
        next = NAME(pick)(NAME(less)(high, next), high, next);
        next = NAME(pick)(fixed, m, next);
        const NAME(vec) step = next - m, allowed = (REAL)NEWTON_TOL * ((REAL)1 + NAME(magnitude)(next));
        m = next;
        sig = NAME(sigmoid)(-m, NAME(exp_minus_abs)(m));
        if (!NAME(any)(NAME(less)(allowed, NAME(magnitude)(step))))
            break;
    }
    const NAME(vec) d = sig * ((REAL)1 - sig);
    out.beta = -s * sig;
    out.u = d * (r + q * u) / ((REAL)1 + q * d);
    return out;
}

/* p = softmax(z) over n padded classes; returns logsumexp(z) - z_label */
static inline REAL NAME(softmax)(const REAL *z, int n, int label, REAL *p)
{
    REAL part[VEC];
    for (int l = 0; l < VEC; l++)
        part[l] = z[l];
    for (int c = VEC; c < n; c += VEC)
        for (int l = 0; l < VEC; l++)
            part[l] = NAME(max)(part[l], z[c + l]);
    const REAL top = NAME(largest)(part);
    for (int l = 0; l < VEC; l++)
        part[l] = 0;
    for (int c = 0; c < n; c += VEC)
        for (int l = 0; l < VEC; l++) {
            p[c + l] = NAME(exp_neg)(z[c + l] - top);
            part[l] += p[c + l];
        }
    const REAL sum = NAME(total)(part), inv = (REAL)1.0 / sum;
    for (int c = 0; c < n; c++)
        p[c] *= inv;
    return (top - z[label]) + LOG(sum);
}

/* p - e_label, the label's entry summed from the others: exact where p_label is near 1 */
static inline void NAME(residual)(const REAL *p, int n, int label, REAL *beta)
{
    REAL part[VEC] = {0};
    for (int c = 0; c < n; c += VEC)
        for (int l = 0; l < VEC; l++) {
            beta[c + l] = p[c + l];
            part[l] += (c + l == label) ? 0 : p[c + l];
        }
    beta[label] = -NAME(total)(part);
}

/* x = (I + q (diag p - p p'))^-1 g by Sherman-Morrison, Eq. (9); 1 - q sum p^2/(1 + qp) is summed as p/(1 + qp) > 0.
 * Returns the largest |x|. */
static inline REAL NAME(solve_curvature)(const REAL *p, REAL q, const REAL *g, int n, REAL *x)
{
    REAL dot[VEC] = {0}, mass[VEC] = {0}, top[VEC] = {0};
    for (int c = 0; c < n; c += VEC)
        for (int l = 0; l < VEC; l++) {
            REAL scaled = p[c + l] / ((REAL)1.0 + q * p[c + l]);
            dot[l] += scaled * g[c + l];
            mass[l] += scaled;
        }
    const REAL shift = q * NAME(total)(dot) / NAME(total)(mass);
    for (int c = 0; c < n; c += VEC)
        for (int l = 0; l < VEC; l++) {
            REAL alpha = (REAL)1.0 + q * p[c + l];
            x[c + l] = (g[c + l] + p[c + l] * shift) / alpha;
            top[l] = NAME(max)(top[l], NAME(abs)(x[c + l]));
        }
    return NAME(largest)(top);
}

/* y = (diag p - p p') x */
static inline void NAME(apply_curvature)(const REAL *p, const REAL *x, int n, REAL *y)
{
    REAL part[VEC] = {0};
    for (int c = 0; c < n; c += VEC)
        for (int l = 0; l < VEC; l++)
            part[l] += p[c + l] * x[c + l];
    const REAL mean = NAME(total)(part);
    for (int c = 0; c < n; c++)
        y[c] = p[c] * (x[c] - mean);
}

static inline REAL NAME(half_square)(const REAL *z, const REAL *c, int n)
{
    REAL part[VEC] = {0};
    for (int k = 0; k < n; k += VEC)
        for (int l = 0; l < VEC; l++)
            part[l] += (z[k + l] - c[k + l]) * (z[k + l] - c[k + l]);
    return (REAL)0.5 * NAME(total)(part);
}

/* More than two classes, Eq. (8): minimize  1/2 |z - c|^2 + q CE(z),  c = a + q beta, by Newton with backtracking from z = a.
 * On entry p = softmax(a), loss = CE(a); on return p = softmax(z) at the minimizer. Six vectors of work. */
static inline void NAME(solve_softmax)(const REAL *a, const REAL *beta, REAL q, int label, int n, REAL loss, REAL *p,
                                       REAL *work)
{
    REAL *z = work, *c = work + n, *g = work + 2 * n, *step = work + 3 * n, *trial = work + 4 * n, *res = work + 5 * n;
    for (int k = 0; k < n; k++) {
        z[k] = a[k];
        c[k] = a[k] + q * beta[k];
    }
    REAL value = NAME(half_square)(z, c, n) + q * loss;
    for (int iteration = 0; iteration < MAX_NEWTON; iteration++) {
        NAME(residual)(p, n, label, res);
        for (int k = 0; k < n; k++)
            g[k] = (z[k] - c[k]) + q * res[k];
        const REAL length = NAME(solve_curvature)(p, q, g, n, step);
        if (!(length > 0))
            return;
        REAL t = 1, trial_value = value;
        for (int halving = 0; halving < MAX_HALVING; halving++, t *= (REAL)0.5) {
            for (int k = 0; k < n; k++)
                trial[k] = z[k] - t * step[k];
            trial_value = NAME(half_square)(trial, c, n) + q * NAME(softmax)(trial, n, label, p);
            if (trial_value <= value + ROUNDING * value || t * length < NEWTON_TOL)
                break;
        }
        for (int k = 0; k < n; k++)
            z[k] = trial[k];
        value = trial_value;
        if (t * length < NEWTON_TOL)
            return;
    }
}
