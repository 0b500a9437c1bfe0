#include "textflag.h"
#include "rows_amd64.h"

// Two elements of four bits are pulled out of a byte by widening it to 16 bits
// and copying the upper one four bits up: w | w<<4, masked, has the lower
// element in its lower byte and the upper element in its upper byte. They come
// out in their order, and are unsigned, as one factor of VPDPBUSD has to be.

#define UNPACK_AND_DOT(row, code, shifted, sum) \
	VPMOVZXBW  (row), code;            \
	VPSLLW     $4, code, shifted;      \
	VPTERNLOGD $0xA8, Z9, shifted, code; \
	VPDPBUSD   Z8, code, sum;          \
	ADDQ       $32, row

// func dotInt4AVX512(dst *int32, q *int8, codes *uint8, rows *uint32, blocks, dim int)
TEXT ·dotInt4AVX512(SB), NOSPLIT, $0-48
	MOVQ dst+0(FP), DI
	MOVQ q+8(FP), SI
	MOVQ codes+16(FP), DX
	MOVQ rows+24(FP), BX
	MOVQ blocks+32(FP), CX
	MOVQ dim+40(FP), AX
	MOVQ AX, R12
	SHRQ $6, R12                  // R12: blocks of 64 elements
	SHRQ $1, AX                   // AX: bytes in a row
	MOVL $0x0F, R13
	VPBROADCASTB R13, Z9

rows:
	PREFETCH_ROWS
	NEXT_ROWS
	VPXORD Z0, Z0, Z0
	VPXORD Z1, Z1, Z1
	VPXORD Z2, Z2, Z2
	VPXORD Z3, Z3, Z3
	MOVQ   SI, R13
	MOVQ   R12, R15

block:
	VMOVDQU32 (R13), Z8
	UNPACK_AND_DOT(R8, Z4, Z10, Z0)
	UNPACK_AND_DOT(R9, Z5, Z11, Z1)
	UNPACK_AND_DOT(R10, Z6, Z12, Z2)
	UNPACK_AND_DOT(R11, Z7, Z13, Z3)
	ADDQ      $64, R13
	DECQ      R15
	JNZ       block
	FOLD_512
	SUM_FOUR
	STORE_FOUR

// The same with AVX2: VPMADDUBSW cannot overflow, because 2*15*128 fits in 16
// bits; multiplying by ones adds its results up to 32 bits.

#define UNPACK_AND_MADD(row, code, sum) \
	VPMOVZXBW  (row), code;         \
	VPSLLW     $4, code, Y7;        \
	VPOR       Y7, code, code;      \
	VPAND      Y9, code, code;      \
	VPMADDUBSW Y8, code, code;      \
	VPMADDWD   Y10, code, code;     \
	VPADDD     code, sum, sum;      \
	ADDQ       $16, row

// func dotInt4AVX2(dst *int32, q *int8, codes *uint8, rows *uint32, blocks, dim int)
TEXT ·dotInt4AVX2(SB), NOSPLIT, $0-48
	MOVQ     dst+0(FP), DI
	MOVQ     q+8(FP), SI
	MOVQ     codes+16(FP), DX
	MOVQ     rows+24(FP), BX
	MOVQ     blocks+32(FP), CX
	MOVQ     dim+40(FP), AX
	MOVQ     AX, R12
	SHRQ     $5, R12              // R12: blocks of 32 elements
	SHRQ     $1, AX               // AX: bytes in a row
	VMOVDQU  ·nibbleMask(SB), Y9
	VPCMPEQW Y10, Y10, Y10
	VPABSW   Y10, Y10             // Y10: ones, of 16 bits

rows:
	PREFETCH_ROWS
	NEXT_ROWS
	VPXOR Y0, Y0, Y0
	VPXOR Y1, Y1, Y1
	VPXOR Y2, Y2, Y2
	VPXOR Y3, Y3, Y3
	MOVQ  SI, R13
	MOVQ  R12, R15

block:
	VMOVDQU (R13), Y8
	UNPACK_AND_MADD(R8, Y4, Y0)
	UNPACK_AND_MADD(R9, Y5, Y1)
	UNPACK_AND_MADD(R10, Y6, Y2)
	UNPACK_AND_MADD(R11, Y4, Y3)
	ADDQ    $32, R13
	DECQ    R15
	JNZ     block
	SUM_FOUR
	STORE_FOUR
