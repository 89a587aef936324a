/* A register of SIMD lanes (vec), and of truth values (mask, all bits of a lane set or none); where the compiler has no vector
 * types, a register is a single real. Included by the row kernels, once per variant. */

static inline REAL NAME(max)(REAL a, REAL b) { return a > b ? a : b; }
static inline REAL NAME(abs)(REAL a) { return a < 0 ? -a : a; }

/* exp(x) for x <= 0, flushed to 0 where it would be subnormal. Vectorizes; a NaN stays a NaN. */
static inline REAL NAME(exp_neg)(REAL x)
{
    const REAL clipped = x < EXP_FLOOR ? EXP_FLOOR : x;
    union { REAL x; UNSIGNED i; } rounded = {clipped * (REAL)1.4426950408889634 + ROUNDER}, power;
    const REAL k = rounded.x - ROUNDER;
    const REAL r = (clipped - k * (REAL)0.693145751953125) - k * (REAL)1.42860682030941723e-6; /* ln 2 in two parts */
    power.i = (rounded.i + EXP_BIAS) << EXP_SHIFT;
    return x < EXP_FLOOR ? (REAL)0.0 : EXP_TAYLOR(r) * power.x;
}

#if HAS_VECTORS
typedef REAL NAME(vec) __attribute__((vector_size(SIMD), aligned(sizeof(REAL)), may_alias));
typedef INT NAME(mask) __attribute__((vector_size(SIMD), aligned(sizeof(INT)), may_alias));
typedef UNSIGNED NAME(bits) __attribute__((vector_size(SIMD), aligned(sizeof(INT)), may_alias));

static inline NAME(mask) NAME(less)(NAME(vec) a, NAME(vec) b) { return (NAME(mask))(a < b); }

static inline NAME(vec) NAME(pick)(NAME(mask) which, NAME(vec) yes, NAME(vec) no)
{
    return (NAME(vec))((which & (NAME(mask))yes) | (~which & (NAME(mask))no));
}

static inline NAME(mask) NAME(lanes_below)(int n)
{
    NAME(mask) lane;
    for (int l = 0; l < LANES; l++)
        lane[l] = l;
    return (NAME(mask))(lane < (INT)n);
}
#else
typedef REAL NAME(vec);
typedef INT NAME(mask);

static inline NAME(mask) NAME(less)(REAL a, REAL b) { return a < b ? -1 : 0; }
static inline REAL NAME(pick)(NAME(mask) which, REAL yes, REAL no) { return which ? yes : no; }
static inline NAME(mask) NAME(lanes_below)(int n) { return n > 0 ? -1 : 0; }
#endif

static inline NAME(vec) NAME(every)(REAL x) { return (NAME(vec)){0} + x; }

static inline NAME(vec) NAME(magnitude)(NAME(vec) x)
{
    return NAME(pick)(NAME(less)(x, NAME(every)(0)), -x, x);
}

static inline NAME(vec) NAME(larger)(NAME(vec) x, NAME(vec) y) { return NAME(pick)(NAME(less)(x, y), y, x); }

static inline REAL NAME(sum)(NAME(vec) x)
{
    REAL part[LANES];
    memcpy(part, &x, sizeof part);
    for (int w = LANES / 2; w; w /= 2)
        for (int l = 0; l < w; l++)
            part[l] += part[l + w];
    return part[0];
}

static inline int NAME(any)(NAME(mask) which)
{
    INT seen = 0;
    for (int l = 0; l < LANES; l++)
        seen |= LANE(which, l);
    return seen != 0;
}

static inline NAME(vec) NAME(load)(const REAL *from, NAME(mask) lanes)
{
    return NAME(pick)(lanes, *(const NAME(vec) *)from, NAME(every)(0));
}

static inline void NAME(store)(REAL *to, NAME(vec) x, NAME(mask) lanes)
{
    *(NAME(vec) *)to = NAME(pick)(lanes, x, *(const NAME(vec) *)to);
}

/* exp(x) for x <= 0, as exp_neg */
static inline NAME(vec) NAME(exp_below)(NAME(vec) x)
{
#if HAS_VECTORS
    const NAME(vec) floor = NAME(every)(EXP_FLOOR);
    const NAME(mask) under = NAME(less)(x, floor);
    const NAME(vec) clipped = NAME(pick)(under, floor, x), rounded = clipped * (REAL)1.4426950408889634 + (REAL)ROUNDER;
    const NAME(vec) k = rounded - (REAL)ROUNDER;
    const NAME(vec) r = (clipped - k * (REAL)0.693145751953125) - k * (REAL)1.42860682030941723e-6;
    const NAME(vec) power = (NAME(vec))(((NAME(bits))rounded + EXP_BIAS) << EXP_SHIFT);
    return NAME(pick)(under, NAME(every)(0), EXP_TAYLOR(r) * power);
#else
    return NAME(exp_neg)(x);
#endif
}

static inline NAME(vec) NAME(exp_minus_abs)(NAME(vec) x) { return NAME(exp_below)(-NAME(magnitude)(x)); }

/* 1/(1 + exp(-x)), given e = exp(-|x|) */
static inline NAME(vec) NAME(sigmoid)(NAME(vec) x, NAME(vec) e)
{
    const NAME(vec) one = NAME(every)(1);
    return NAME(pick)(NAME(less)(x, NAME(every)(0)), e, one) / (one + e);
}

/* log(1 + e) for 0 <= e <= 1: 2 artanh(e/(2 + e)) by its series, whose argument is at most 1/3 */
static inline NAME(vec) NAME(log_one_plus)(NAME(vec) e)
{
    const NAME(vec) t = e / ((REAL)2 + e), square = t * t;
    NAME(vec) sum = NAME(every)((REAL)1 / (2 * ARTANH_TERMS + 1));
    for (int k = ARTANH_TERMS - 1; k >= 0; k--)
        sum = sum * square + (REAL)1 / (2 * k + 1);
    return (REAL)2 * t * sum;
}
