#include "textflag.h"

// SIGNS is eight signs, one of them in each word: those of the elements of which
// the sum of a butterfly is a difference.
#define SIGNS(name, w01, w23, w45, w67) \
	DATA name+0x00(SB)/8, $w01; \
	DATA name+0x08(SB)/8, $w23; \
	DATA name+0x10(SB)/8, $w45; \
	DATA name+0x18(SB)/8, $w67; \
	GLOBL name(SB), RODATA|NOPTR, $32

SIGNS(·signsOf1, 0x8000000000000000, 0x8000000000000000, 0x8000000000000000, 0x8000000000000000)
SIGNS(·signsOf2, 0, 0x8000000080000000, 0, 0x8000000080000000)
SIGNS(·signsOf4, 0, 0, 0x8000000080000000, 0x8000000080000000)

// func hadamardAVX2(x *float32, dim int, scale float32)
//
// The first three stages are within a register: each element is added to its
// partner, or, with its sign flipped, taken from it.
TEXT ·hadamardAVX2(SB), NOSPLIT, $0-20
	MOVQ    x+0(FP), DI
	MOVQ    dim+8(FP), CX
	SHLQ    $2, CX                // CX: bytes of x
	LEAQ    (DI)(CX*1), R8        // R8: the end of x
	VMOVUPS ·signsOf1(SB), Y5
	VMOVUPS ·signsOf2(SB), Y6
	VMOVUPS ·signsOf4(SB), Y7
	MOVQ    DI, SI

small:
	VMOVUPS    (SI), Y0
	VPERMILPS  $0xB1, Y0, Y1      // partners 1 apart
	VXORPS     Y5, Y0, Y0
	VADDPS     Y0, Y1, Y0
	VPERMILPS  $0x4E, Y0, Y1      // partners 2 apart
	VXORPS     Y6, Y0, Y0
	VADDPS     Y0, Y1, Y0
	VPERM2F128 $1, Y0, Y0, Y1     // partners 4 apart
	VXORPS     Y7, Y0, Y0
	VADDPS     Y0, Y1, Y0
	VMOVUPS    Y0, (SI)
	ADDQ       $32, SI
	CMPQ       SI, R8
	JNE        small
	MOVQ       $32, AX            // AX: bytes between partners

stage:
	CMPQ AX, CX
	JGE  scale
	MOVQ DI, SI

group:
	LEAQ (SI)(AX*1), DX           // DX: the partners of SI, and the end of SI

pair:
	VMOVUPS (SI), Y0
	VMOVUPS (SI)(AX*1), Y1
	VADDPS  Y1, Y0, Y2
	VSUBPS  Y1, Y0, Y3
	VMOVUPS Y2, (SI)
	VMOVUPS Y3, (SI)(AX*1)
	ADDQ    $32, SI
	CMPQ    SI, DX
	JNE     pair
	ADDQ    AX, SI
	CMPQ    SI, R8
	JNE     group
	SHLQ    $1, AX
	JMP     stage

scale:
	VBROADCASTSS scale+16(FP), Y4

scaled:
	VMULPS  (DI), Y4, Y0
	VMOVUPS Y0, (DI)
	ADDQ    $32, DI
	CMPQ    DI, R8
	JNE     scaled
	VZEROUPPER
	RET
