/* One instruction set, SET_TAG, in both precisions of the state: included by _variants.h alone. */
#define REAL float
#define REAL_TAG f32
#define INT int32_t
#define UNSIGNED uint32_t
#define EXP_BIAS 127
#define EXP_SHIFT 23
#define EXP_FLOOR (-87.0f)
#define ROUNDER 12582912.0f /* adding it leaves the nearest integer in the low bits */
#define NEWTON_TOL 1e-3f    /* the step after which Newton's next one would be exact */
#define ENOUGH 5e-2f        /* several classes: of the way that a row's outputs go, what may be left of it */
#define ROUNDING 1e-6f      /* a few of the last bits */
#define PADDING (-1e30f)    /* an output that no softmax sees */
#define ARTANH_TERMS 7
#define LOG logf
#define LOG1P log1pf
#define EXP_TAYLOR(r) \
    (1 + r * (1 + r * (0.5f + r * (1 / 6.f + r * (1 / 24.f + r * (1 / 120.f + r * (1 / 720.f)))))))
#include ROW_KERNEL
#include PASS_KERNEL
#undef REAL
#undef REAL_TAG
#undef INT
#undef UNSIGNED
#undef EXP_BIAS
#undef EXP_SHIFT
#undef EXP_FLOOR
#undef ROUNDER
#undef NEWTON_TOL
#undef ENOUGH
#undef ROUNDING
#undef PADDING
#undef ARTANH_TERMS
#undef LOG
#undef LOG1P
#undef EXP_TAYLOR

#define REAL double
#define REAL_TAG f64
#define INT int64_t
#define UNSIGNED uint64_t
#define EXP_BIAS 1023
#define EXP_SHIFT 52
#define EXP_FLOOR (-708.0)
#define ROUNDER 6755399441055744.0
#define NEWTON_TOL 1e-6
#define ENOUGH 1e-7
#define ROUNDING 1e-14
#define PADDING (-1e300)
#define ARTANH_TERMS 16
#define LOG log
#define LOG1P log1p
#define EXP_TAYLOR(r) \
    (1 + r * (1 + r * (0.5 + r * (1 / 6. + r * (1 / 24. + r * (1 / 120. + r * (1 / 720. + r * (1 / 5040. + \
    r * (1 / 40320. + r * (1 / 362880. + r * (1 / 3628800. + r * (1 / 39916800. + r / 479001600.))))))))))))
#include ROW_KERNEL
#include PASS_KERNEL
#undef REAL
#undef REAL_TAG
#undef INT
#undef UNSIGNED
#undef EXP_BIAS
#undef EXP_SHIFT
#undef EXP_FLOOR
#undef ROUNDER
#undef NEWTON_TOL
#undef ENOUGH
#undef ROUNDING
#undef PADDING
#undef ARTANH_TERMS
#undef LOG
#undef LOG1P
#undef EXP_TAYLOR
