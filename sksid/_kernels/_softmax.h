/* One row of more than two classes: softmax, curvature, and the solves of the dual solver (docs/method.rst, the dual solver).
 * Included by the row kernels, once per variant.
 *
 * Arrays of outputs are padded to VEC and worked on in registers. All sums over them are kept in VEC parts, one order whatever
 * the instruction set. Probabilities p stand in an array that has 0 for the row's own class, the label; its probability `own`
 * and the sum of the others stand apart: so p - e_label, whose entry there is -others, is exact where own is near 1. */

#define MAX_HALVING 30
#define SURE ((REAL)0.89) /* a step that moves no output further than this needs no test, see solve_softmax */
#define N_PARTS (VEC / LANES)
#define EACH_VEC(c, v, n)                 \
    for (int c = 0; c < (n); c += VEC)    \
        for (int v = 0; v < N_PARTS; v++)
#define AT(x, c, v) (*(NAME(vec) *)((x) + (c) + (v) * LANES))

typedef struct {
    REAL own, others; /* probabilities: of the label, of all other classes together */
    REAL margin, sum; /* the largest output less the label's; the sum of exp(z - the largest) */
} NAME(odds);

static inline REAL NAME(loss)(const NAME(odds) *odds) { return odds->margin + LOG(odds->sum); }

static inline REAL NAME(total)(const NAME(vec) *parts)
{
    REAL part[VEC];
    memcpy(part, parts, sizeof part);
    return ((part[0] + part[4]) + (part[2] + part[6])) + ((part[1] + part[5]) + (part[3] + part[7]));
}

static inline REAL NAME(largest)(const NAME(vec) *parts)
{
    REAL part[VEC];
    memcpy(part, parts, sizeof part);
    for (int w = VEC / 2; w; w /= 2)
        for (int l = 0; l < w; l++)
            part[l] = NAME(max)(part[l], part[l + w]);
    return part[0];
}

/* x'y */
static inline REAL NAME(dot)(const REAL *x, const REAL *y, int n)
{
    NAME(vec) part[N_PARTS] = {NAME(every)(0)};
    EACH_VEC(c, v, n)
    part[v] += AT(x, c, v) * AT(y, c, v);
    return NAME(total)(part);
}

static inline REAL NAME(squared_distance)(const REAL *x, const REAL *y, int n)
{
    NAME(vec) part[N_PARTS] = {NAME(every)(0)};
    EACH_VEC(c, v, n)
    {
        const NAME(vec) difference = AT(x, c, v) - AT(y, c, v);
        part[v] += difference * difference;
    }
    return NAME(total)(part);
}

/* p = softmax(z) over n padded classes */
static inline NAME(odds) NAME(softmax)(REAL *z, int n, int label, REAL *p)
{
    const REAL z_label = z[label];
    NAME(vec) part[N_PARTS];
    z[label] = PADDING;
    for (int v = 0; v < N_PARTS; v++)
        part[v] = AT(z, 0, v);
    EACH_VEC(c, v, n)
    part[v] = NAME(larger)(part[v], AT(z, c, v));
    const REAL top = NAME(max)(NAME(largest)(part), z_label), own = NAME(exp_neg)(z_label - top);
    for (int v = 0; v < N_PARTS; v++)
        part[v] = NAME(every)(0);
    EACH_VEC(c, v, n)
    {
        const NAME(vec) e = NAME(exp_below)(AT(z, c, v) - top);
        AT(p, c, v) = e;
        part[v] += e;
    }
    z[label] = z_label;
    const REAL others = NAME(total)(part), sum = own + others, inverse = 1 / sum;
    EACH_VEC(c, v, n)
    AT(p, c, v) *= inverse;
    return (NAME(odds)){own * inverse, others * inverse, top - z_label, sum};
}

/* The sum of p_c (1 - p_c), never negative */
static inline REAL NAME(variance)(const REAL *p, const NAME(odds) *odds, int n)
{
    NAME(vec) part[N_PARTS] = {NAME(every)(0)};
    EACH_VEC(c, v, n)
    part[v] += AT(p, c, v) * ((REAL)1 - AT(p, c, v));
    return NAME(total)(part) + odds->own * odds->others;
}

/* y = (diag p - p p') x ; the label's entry summed from the others */
static inline void NAME(apply_curvature)(const REAL *p, REAL own, int label, const REAL *x, int n, REAL *y)
{
    NAME(vec) part[N_PARTS] = {NAME(every)(0)};
    EACH_VEC(c, v, n)
    part[v] += AT(p, c, v) * AT(x, c, v);
    const REAL mean = NAME(total)(part) + own * x[label];
    for (int v = 0; v < N_PARTS; v++)
        part[v] = NAME(every)(0);
    EACH_VEC(c, v, n)
    {
        const NAME(vec) slope = AT(p, c, v) * (AT(x, c, v) - mean);
        AT(y, c, v) = slope;
        part[v] += slope;
    }
    y[label] = -NAME(total)(part);
}

/* Newton's step for Eq. (8) by Sherman-Morrison, Eq. (9), with g = z - c + q (p - e_label): step, and trial = z - step. Returns
 * how far it moves an output at most. */
static inline REAL NAME(newton_step)(const REAL *p, const NAME(odds) *odds, REAL q, int label, int n, const REAL *z,
                                     const REAL *c, REAL *inverse, REAL *step, REAL *trial)
{
    NAME(vec) dot[N_PARTS] = {NAME(every)(0)}, mass[N_PARTS] = {NAME(every)(0)}, top[N_PARTS] = {NAME(every)(0)};
    EACH_VEC(k, v, n)
    {
        const NAME(vec) weight = q * AT(p, k, v), g = AT(z, k, v) - AT(c, k, v) + weight;
        const NAME(vec) one_over = (REAL)1 / ((REAL)1 + weight), scaled = AT(p, k, v) * one_over;
        dot[v] += scaled * g;
        mass[v] += scaled;
        AT(step, k, v) = g;
        AT(inverse, k, v) = one_over;
    }
    const REAL g = z[label] - c[label] - q * odds->others, scaled = odds->own / (1 + q * odds->own);
    const REAL shift = q * (NAME(total)(dot) + scaled * g) / (NAME(total)(mass) + scaled);
    const REAL own = g / (1 + q * odds->own) + scaled * shift;
    step[label] = 0;
    EACH_VEC(k, v, n)
    {
        const NAME(vec) x = (AT(step, k, v) + AT(p, k, v) * shift) * AT(inverse, k, v);
        AT(step, k, v) = x;
        AT(trial, k, v) = AT(z, k, v) - x;
        top[v] = NAME(larger)(top[v], NAME(magnitude)(x));
    }
    step[label] = own;
    trial[label] = z[label] - own;
    return NAME(max)(NAME(abs)(own), NAME(largest)(top));
}

/* F of solve_softmax */
static inline REAL NAME(objective)(const REAL *z, const REAL *c, REAL q, const NAME(odds) *odds, int n)
{
    return (REAL)0.5 * NAME(squared_distance)(z, c, n) + q * NAME(loss)(odds);
}

/* More than two classes, Eq. (8): minimize  F(z) = 1/2 |z - c|^2 + q CE(z),  c = a + q beta, by Newton with backtracking from
 * z = a. On entry p = softmax(a), on return p = softmax(z) at the minimizer. Five vectors of work.
 *
 * The curvature of F along a step x changes by a factor e^r at most, where r is the range of x. So a whole step lowers F where
 * (e^r - 1 - r) / r^2 <= 1, as it is for r <= 1.79; only others are tested. After a small step that moves outputs by m at most,
 * z and c - q (p - e_label), which are one at the minimizer, differ by about m^2 (1 + q (1 - p_label)): iterations end where that
 * is little against the way that the outputs have gone. */
static inline NAME(odds) NAME(solve_softmax)(const REAL *a, const REAL *beta, REAL q, int label, int n, NAME(odds) odds,
                                             REAL *p, REAL *work)
{
    REAL *z = work, *c = z + n, *inverse = c + n, *step = inverse + n, *trial = step + n, way = 0;
    EACH_VEC(k, v, n)
    {
        AT(z, k, v) = AT(a, k, v);
        AT(c, k, v) = AT(a, k, v) + q * AT(beta, k, v);
    }
    for (int iteration = 0; iteration < MAX_NEWTON; iteration++) {
        REAL moved = NAME(newton_step)(p, &odds, q, label, n, z, c, inverse, step, trial), share = 1;
        if (!(moved > 0))
            break;
        const REAL value = moved <= SURE ? 0 : NAME(objective)(z, c, q, &odds, n) * (1 + ROUNDING);
        odds = NAME(softmax)(trial, n, label, p);
        for (int halving = 0; moved > SURE && halving < MAX_HALVING; halving++) {
            if (NAME(objective)(trial, c, q, &odds, n) <= value)
                break;
            share *= (REAL)0.5;
            moved *= (REAL)0.5;
            EACH_VEC(k, v, n)
            AT(trial, k, v) = AT(z, k, v) - share * AT(step, k, v);
            odds = NAME(softmax)(trial, n, label, p);
        }
        REAL *before = z;
        z = trial, trial = before;
        way = NAME(max)(way, moved);
        if (moved < NEWTON_TOL || (moved <= SURE && moved * moved * (1 + q * odds.others) < ENOUGH * way))
            break;
    }
    return odds;
}

/* The adjoint's duals at probabilities p, Eq. (11): (I + q D) u = D t, t = r + q u_i. As (I + q D) leaves the sum of outputs
 * alone, u sums to zero, and u_c = p_c (t_c - m) / (1 + q p_c) with the m that makes it so. */
static inline void NAME(solve_adjoint)(const REAL *p, REAL own, REAL q, int label, int n, const REAL *t, REAL *scaled, REAL *u)
{
    NAME(vec) dot[N_PARTS] = {NAME(every)(0)}, mass[N_PARTS] = {NAME(every)(0)}, sum[N_PARTS] = {NAME(every)(0)};
    EACH_VEC(c, v, n)
    {
        const NAME(vec) x = AT(p, c, v) / ((REAL)1 + q * AT(p, c, v));
        AT(scaled, c, v) = x;
        dot[v] += x * AT(t, c, v);
        mass[v] += x;
    }
    const REAL x = own / (1 + q * own), mean = (NAME(total)(dot) + x * t[label]) / (NAME(total)(mass) + x);
    EACH_VEC(c, v, n)
    {
        const NAME(vec) y = AT(scaled, c, v) * (AT(t, c, v) - mean);
        AT(u, c, v) = y;
        sum[v] += y;
    }
    u[label] = -NAME(total)(sum);
}
