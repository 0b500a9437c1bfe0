#include "textflag.h"

// SCORE leaves in score the line at eight rows, and in reached the mask of those
// that are not below the floor.
#define SCORE(offset, score, reached) \
	VCVTDQ2PS offset(DX), score;            \
	VMULPS    score, Y0, score;             \
	VMULPS    offset(BX), Y1, reached;      \
	VADDPS    reached, score, score;        \
	VADDPS    Y2, score, score;             \
	VMULPS    offset(R8), score, score;     \
	VMOVUPS   score, offset(DI);            \
	VCMPPS    $0x1D, Y3, score, reached

// func scoreAVX2(scores *float32, reached *uint64, counts *uint32, offsets, factors *float32, line *Line, floor float32, blocks int)
TEXT ·scoreAVX2(SB), NOSPLIT, $0-64
	MOVQ         scores+0(FP), DI
	MOVQ         reached+8(FP), SI
	MOVQ         counts+16(FP), DX
	MOVQ         offsets+24(FP), BX
	MOVQ         factors+32(FP), R8
	MOVQ         line+40(FP), R9
	MOVQ         blocks+56(FP), CX
	VBROADCASTSS (R9), Y0
	VBROADCASTSS 4(R9), Y1
	VBROADCASTSS 8(R9), Y2
	VBROADCASTSS floor+48(FP), Y3

block:
	SCORE(0, Y4, Y5)
	SCORE(32, Y6, Y7)
	VMOVMSKPS Y5, R10
	VMOVMSKPS Y7, R11
	SHLL      $8, R11
	ORL       R11, R10
	MOVW      R10, (SI)
	ADDQ      $2, SI
	ADDQ      $64, DI
	ADDQ      $64, DX
	ADDQ      $64, BX
	ADDQ      $64, R8
	DECQ      CX
	JNZ       block
	VZEROUPPER
	RET
