#include "textflag.h"

// func scanNEON(planes, code *uint64, words, count int) uint32
//
// Two words are taken at once: the bits of each byte are counted plane by plane,
// the highest plane first, and doubled from plane to plane. A byte reaches
// 8*(1+2+4+8) = 120; the bytes are added to sums of 16 bits, two to each.
TEXT ·scanNEON(SB), NOSPLIT, $0-36
	MOVD planes+0(FP), R0
	MOVD code+8(FP), R1
	MOVD words+16(FP), R2
	MOVD count+24(FP), R3
	LSL  $3, R2, R4               // R4: bytes in a plane
	SUB  $1, R3, R5
	MUL  R4, R5, R5
	ADD  R5, R0, R0               // R0: the highest plane
	VEOR V0.B16, V0.B16, V0.B16   // V0: the sums

pair:
	VLD1.P 16(R1), [V1.B16]
	VEOR   V2.B16, V2.B16, V2.B16 // V2: the counts
	MOVD   R0, R5
	MOVD   R3, R6

plane:
	VLD1 (R5), [V3.B16]
	VAND V1.B16, V3.B16, V3.B16
	VCNT V3.B16, V3.B16
	VADD V2.B16, V2.B16, V2.B16
	VADD V3.B16, V2.B16, V2.B16
	SUB  R4, R5, R5
	SUBS $1, R6, R6
	BNE  plane
	VUADDW  V2.B8, V0.H8, V0.H8
	VUADDW2 V2.B16, V0.H8, V0.H8
	ADD     $16, R0
	SUBS    $2, R2, R2
	BNE     pair
	VUADDLV V0.H8, V1
	VMOV    V1.S[0], R0
	MOVW    R0, ret+32(FP)
	RET
