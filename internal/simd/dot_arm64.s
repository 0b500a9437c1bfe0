#include "textflag.h"

// The assembler has no FMUL and no FADD of vectors, but FMLA, which rounds once,
// is either: 0 + x*y is the rounded product, and sum + p*1 the rounded sum. So
// nothing is fused that the other sets do not fuse.

// PRODUCT adds to the four lanes of sum the products of x and y.
#define PRODUCT(x, y, sum) \
	VEOR  V30.B16, V30.B16, V30.B16; \
	VFMLA x.S4, y.S4, V30.S4;        \
	VFMLA V31.S4, V30.S4, sum.S4

// func dotNEON(sums *[lanes]float32, a, b *float32, blocks int)
TEXT ·dotNEON(SB), NOSPLIT, $0-32
	MOVD  sums+0(FP), R0
	MOVD  a+8(FP), R1
	MOVD  b+16(FP), R2
	MOVD  blocks+24(FP), R3
	FMOVS $1.0, F31
	VDUP  V31.S[0], V31.S4        // V31: ones
	VEOR  V0.B16, V0.B16, V0.B16  // V0 to V7: the sums
	VEOR  V1.B16, V1.B16, V1.B16
	VEOR  V2.B16, V2.B16, V2.B16
	VEOR  V3.B16, V3.B16, V3.B16
	VEOR  V4.B16, V4.B16, V4.B16
	VEOR  V5.B16, V5.B16, V5.B16
	VEOR  V6.B16, V6.B16, V6.B16
	VEOR  V7.B16, V7.B16, V7.B16

block:
	VLD1.P 64(R1), [V16.S4, V17.S4, V18.S4, V19.S4]
	VLD1.P 64(R2), [V20.S4, V21.S4, V22.S4, V23.S4]
	PRODUCT(V16, V20, V0)
	PRODUCT(V17, V21, V1)
	PRODUCT(V18, V22, V2)
	PRODUCT(V19, V23, V3)
	VLD1.P 64(R1), [V16.S4, V17.S4, V18.S4, V19.S4]
	VLD1.P 64(R2), [V20.S4, V21.S4, V22.S4, V23.S4]
	PRODUCT(V16, V20, V4)
	PRODUCT(V17, V21, V5)
	PRODUCT(V18, V22, V6)
	PRODUCT(V19, V23, V7)
	SUB    $1, R3
	CBNZ   R3, block
	VST1.P [V0.S4, V1.S4, V2.S4, V3.S4], 64(R0)
	VST1   [V4.S4, V5.S4, V6.S4, V7.S4], (R0)
	RET
