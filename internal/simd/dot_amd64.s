#include "textflag.h"

// Thirty-two words of ones and thirty-two of zeros: what starts r words before
// the middle is a mask of the r elements that are left.
DATA ·tailMask+0x00(SB)/8, $-1
DATA ·tailMask+0x08(SB)/8, $-1
DATA ·tailMask+0x10(SB)/8, $-1
DATA ·tailMask+0x18(SB)/8, $-1
DATA ·tailMask+0x20(SB)/8, $-1
DATA ·tailMask+0x28(SB)/8, $-1
DATA ·tailMask+0x30(SB)/8, $-1
DATA ·tailMask+0x38(SB)/8, $-1
DATA ·tailMask+0x40(SB)/8, $-1
DATA ·tailMask+0x48(SB)/8, $-1
DATA ·tailMask+0x50(SB)/8, $-1
DATA ·tailMask+0x58(SB)/8, $-1
DATA ·tailMask+0x60(SB)/8, $-1
DATA ·tailMask+0x68(SB)/8, $-1
DATA ·tailMask+0x70(SB)/8, $-1
DATA ·tailMask+0x78(SB)/8, $-1
GLOBL ·tailMask(SB), RODATA|NOPTR, $256

// The order of the sums is that of Set.Dot: register k holds a run of the 32
// lanes, and at the end the upper half of the lanes is added to the lower half,
// until one is left. Masked elements are zeros: adding their product changes no
// sum, for none is ever -0. Multiply and add are two instructions on purpose.

// AVX2_PRODUCT adds to the eight lanes of sum the products at the offset.
#define AVX2_PRODUCT(offset, sum) \
	VMOVUPS offset(SI), Y4;     \
	VMULPS  offset(DX), Y4, Y4; \
	VADDPS  Y4, sum, sum

// AVX2_TAIL is AVX2_PRODUCT of the elements that the mask at the offset lets
// through; it does not touch the memory of the others.
#define AVX2_TAIL(offset, sum) \
	VMOVUPS    offset(R9), Y6;     \
	VMASKMOVPS offset(SI), Y6, Y4; \
	VMASKMOVPS offset(DX), Y6, Y5; \
	VMULPS     Y5, Y4, Y4;         \
	VADDPS     Y4, sum, sum

// SUM_8 folds the eight lanes of Y0 into the first of X0.
#define SUM_8 \
	VEXTRACTF128 $1, Y0, X1;     \
	VADDPS       X1, X0, X0;     \
	VPERMILPS    $0x4E, X0, X1;  \
	VADDPS       X1, X0, X0;     \
	VMOVSHDUP    X0, X1;         \
	VADDSS       X1, X0, X0

// func dotRowsAVX2(dst, q, rows *float32, count, dim int)
TEXT ·dotRowsAVX2(SB), NOSPLIT, $0-40
	MOVQ dst+0(FP), DI
	MOVQ q+8(FP), BX
	MOVQ rows+16(FP), DX
	MOVQ count+24(FP), CX
	MOVQ dim+32(FP), R8
	MOVQ R8, R10
	ANDQ $31, R10                 // R10: elements behind the last block of 32
	SHRQ $5, R8                   // R8: blocks of 32
	LEAQ ·tailMask+128(SB), R9
	MOVQ R10, AX
	SHLQ $2, AX                   // AX: bytes of the tail
	SUBQ AX, R9                   // R9: its mask

row:
	MOVQ   BX, SI
	VXORPS Y0, Y0, Y0
	VXORPS Y1, Y1, Y1
	VXORPS Y2, Y2, Y2
	VXORPS Y3, Y3, Y3
	MOVQ   R8, R11
	TESTQ  R11, R11
	JZ     tail

block:
	AVX2_PRODUCT(0, Y0)
	AVX2_PRODUCT(32, Y1)
	AVX2_PRODUCT(64, Y2)
	AVX2_PRODUCT(96, Y3)
	ADDQ $128, SI
	ADDQ $128, DX
	DECQ R11
	JNZ  block

tail:
	TESTQ R10, R10
	JZ    sum
	AVX2_TAIL(0, Y0)
	AVX2_TAIL(32, Y1)
	AVX2_TAIL(64, Y2)
	AVX2_TAIL(96, Y3)
	ADDQ  AX, DX

sum:
	VADDPS Y2, Y0, Y0
	VADDPS Y3, Y1, Y1
	VADDPS Y1, Y0, Y0
	SUM_8
	VMOVSS X0, (DI)
	ADDQ   $4, DI
	DECQ   CX
	JNZ    row
	VZEROUPPER
	RET

// func dotRowsAVX512(dst, q, rows *float32, count, dim int)
TEXT ·dotRowsAVX512(SB), NOSPLIT, $0-40
	MOVQ  dst+0(FP), DI
	MOVQ  q+8(FP), BX
	MOVQ  rows+16(FP), DX
	MOVQ  count+24(FP), R12
	MOVQ  dim+32(FP), R8
	MOVQ  R8, CX
	ANDQ  $31, CX                 // elements behind the last block of 32
	SHRQ  $5, R8                  // R8: blocks of 32
	MOVQ  CX, R10
	SHLQ  $2, R10                 // R10: bytes of the tail
	MOVQ  $1, AX
	SHLQ  CX, AX
	DECQ  AX                      // as many ones
	KMOVW AX, K1                  // K1 and K2: masks of the tail, 16 elements each
	SHRQ  $16, AX
	KMOVW AX, K2

row:
	MOVQ   BX, SI
	VPXORD Z0, Z0, Z0
	VPXORD Z1, Z1, Z1
	MOVQ   R8, R11
	TESTQ  R11, R11
	JZ     tail

block:
	VMOVUPS (SI), Z4
	VMULPS  (DX), Z4, Z4
	VADDPS  Z4, Z0, Z0
	VMOVUPS 64(SI), Z5
	VMULPS  64(DX), Z5, Z5
	VADDPS  Z5, Z1, Z1
	ADDQ    $128, SI
	ADDQ    $128, DX
	DECQ    R11
	JNZ     block

tail:
	TESTQ     R10, R10
	JZ        sum
	VMOVUPS.Z (SI), K1, Z4
	VMOVUPS.Z (DX), K1, Z5
	VMULPS    Z5, Z4, Z4
	VADDPS    Z4, Z0, Z0
	VMOVUPS.Z 64(SI), K2, Z4
	VMOVUPS.Z 64(DX), K2, Z5
	VMULPS    Z5, Z4, Z4
	VADDPS    Z4, Z1, Z1
	ADDQ      R10, DX

sum:
	VADDPS        Z1, Z0, Z0
	VEXTRACTF32X8 $1, Z0, Y1
	VADDPS        Y1, Y0, Y0
	SUM_8
	VMOVSS        X0, (DI)
	ADDQ          $4, DI
	DECQ          R12
	JNZ           row
	VZEROUPPER
	RET
