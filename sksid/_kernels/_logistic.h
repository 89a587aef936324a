/* One row of two classes in a register of splits: the solves of the dual solver (docs/method.rst, the dual solver). Included by
 * the row kernels, once per variant. */

#include "_vectors.h"

#define MAX_NEWTON 40

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

#include "_softmax.h"
