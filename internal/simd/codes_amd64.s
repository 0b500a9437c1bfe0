#include "textflag.h"
#include "rows_amd64.h"

// The scan of AVX-512 counts the bits of each byte (VPOPCNTB), and the dot
// product of bytes (VPDPBUSD) weighs the counts and adds them up: three
// instructions for a plane. Four rows are taken at once.
//
// Registers besides those of rows_amd64.h: SI, R12, R13, R14 the planes, R15 the
// offset in planes and rows, K1 the mask of the tail, K2 that of all words,
// Z16 to Z19 the weights of the planes, Z0 to Z3 the sums of the rows.
// What points into a plane or a row points behind its last whole 512 bits, so
// that the offset runs from below zero to zero and the tail is at zero.

#define LOAD(row, mask, z) \
	VMOVDQU64.Z (row)(R15*1), mask, z

// COUNT_4 adds to the sum what a piece of a row counts for against the pieces of
// the planes p0 to p3, COUNT_2 against those of two planes. The other registers
// are the weights w and scratch.
#define COUNT_2(code, p0, p1, w0, w1, t0, t1, sum) \
	VPANDQ   code, p0, t0; \
	VPANDQ   code, p1, t1; \
	VPOPCNTB t0, t0;       \
	VPOPCNTB t1, t1;       \
	VPDPBUSD w0, t0, sum;  \
	VPDPBUSD w1, t1, sum

#define COUNT_4_512(code, sum) \
	COUNT_2(code, Z8, Z9, Z16, Z17, Z4, Z5, sum); \
	COUNT_2(code, Z10, Z11, Z18, Z19, Z6, Z7, sum)

#define COUNT_4_256(code, sum) \
	COUNT_2(code, Y8, Y9, Y16, Y17, Y4, Y5, sum); \
	COUNT_2(code, Y10, Y11, Y18, Y19, Y6, Y7, sum)

#define ROWS_512(mask) \
	LOAD(R8, mask, Z12);  \
	LOAD(R9, mask, Z13);  \
	LOAD(R10, mask, Z14); \
	LOAD(R11, mask, Z15)

#define ROWS_256(mask) \
	LOAD(R8, mask, Y12);  \
	LOAD(R9, mask, Y13);  \
	LOAD(R10, mask, Y14); \
	LOAD(R11, mask, Y15)

// STEP_4_512 is 512 bits of four rows against four planes.
#define STEP_4_512(mask) \
	LOAD(SI, mask, Z8);   \
	LOAD(R12, mask, Z9);  \
	LOAD(R13, mask, Z10); \
	LOAD(R14, mask, Z11); \
	ROWS_512(mask);       \
	COUNT_4_512(Z12, Z0); \
	COUNT_4_512(Z13, Z1); \
	COUNT_4_512(Z14, Z2); \
	COUNT_4_512(Z15, Z3)

#define STEP_4_256(mask) \
	LOAD(SI, mask, Y8);   \
	LOAD(R12, mask, Y9);  \
	LOAD(R13, mask, Y10); \
	LOAD(R14, mask, Y11); \
	ROWS_256(mask);       \
	COUNT_4_256(Y12, Y0); \
	COUNT_4_256(Y13, Y1); \
	COUNT_4_256(Y14, Y2); \
	COUNT_4_256(Y15, Y3)

#define STEP_2_512(mask) \
	LOAD(SI, mask, Z8);                              \
	LOAD(R12, mask, Z9);                             \
	ROWS_512(mask);                                  \
	COUNT_2(Z12, Z8, Z9, Z16, Z17, Z4, Z5, Z0);      \
	COUNT_2(Z13, Z8, Z9, Z16, Z17, Z6, Z7, Z1);      \
	COUNT_2(Z14, Z8, Z9, Z16, Z17, Z4, Z5, Z2);      \
	COUNT_2(Z15, Z8, Z9, Z16, Z17, Z6, Z7, Z3)

#define STEP_2_256(mask) \
	LOAD(SI, mask, Y8);                              \
	LOAD(R12, mask, Y9);                             \
	ROWS_256(mask);                                  \
	COUNT_2(Y12, Y8, Y9, Y16, Y17, Y4, Y5, Y0);      \
	COUNT_2(Y13, Y8, Y9, Y16, Y17, Y6, Y7, Y1);      \
	COUNT_2(Y14, Y8, Y9, Y16, Y17, Y4, Y5, Y2);      \
	COUNT_2(Y15, Y8, Y9, Y16, Y17, Y6, Y7, Y3)

// FILL makes all bytes of a register one number.
#define FILL(number, z) \
	MOVL         number, R15; \
	VPBROADCASTB R15, z

// SETUP_512 loads the arguments and fills the registers that stay as they are.
#define SETUP_512 \
	MOVQ  words+32(FP), CX;   \
	MOVQ  CX, AX;             \
	SHLQ  $3, AX;             \
	ANDQ  $7, CX;             \
	MOVQ  $1, R15;            \
	SHLQ  CX, R15;            \
	DECQ  R15;                \
	KMOVB R15, K1;            \
	KXNORB K2, K2, K2;        \
	FILL($1, Z16);            \
	FILL($2, Z17);            \
	FILL($4, Z18);            \
	FILL($8, Z19);            \
	MOVQ  AX, R15;            \
	ANDQ  $-64, R15;          \
	MOVQ  dst+0(FP), DI;      \
	MOVQ  planes+8(FP), SI;   \
	MOVQ  codes+16(FP), DX;   \
	MOVQ  blocks+24(FP), CX;  \
	ADDQ  R15, DX;            \
	ADDQ  R15, SI;            \
	LEAQ  (SI)(AX*1), R12;    \
	LEAQ  (SI)(AX*2), R13;    \
	LEAQ  (R12)(AX*2), R14

// AHEAD is how many bytes early the codes are asked for. Four rows are read side by
// side, which the processor does not see to be one stream: without being told it waits
// for nearly every line that is in no near cache.
#define AHEAD 2048

// PREFETCH_AHEAD asks for four rows.
#define PREFETCH_AHEAD \
	LEAQ       AHEAD(DX), R8;  \
	LEAQ       (R8)(AX*4), R9; \
ask: \
	PREFETCHT0 (R8);           \
	ADDQ       $64, R8;        \
	CMPQ       R8, R9;         \
	JLT        ask

#define CLEAR_512 \
	VPXORD Z0, Z0, Z0; \
	VPXORD Z1, Z1, Z1; \
	VPXORD Z2, Z2, Z2; \
	VPXORD Z3, Z3, Z3

// TO_START moves the offset to where the rows start; it sets the zero flag if
// they have no 512 bits.
#define TO_START \
	MOVQ AX, R15;    \
	ANDQ $-64, R15;  \
	NEGQ R15

// func scanFourAVX512(dst *uint32, planes, codes *uint64, blocks, words int)
TEXT ·scanFourAVX512(SB), NOSPLIT, $0-40
	SETUP_512

	// The tail comes first: a result of 256 bits clears the rest of its register,
	// which must not hold anything yet.
rows:
	PREFETCH_AHEAD
	ROWS_IN_ORDER
	CLEAR_512
	XORL  R15, R15
	TESTQ $32, AX
	JNZ   wide
	TESTQ $24, AX
	JZ    whole
	STEP_4_256(K1)
	JMP   whole

wide:
	STEP_4_512(K1)

whole:
	TO_START
	JZ sum

block:
	STEP_4_512(K2)
	ADDQ $64, R15
	JNZ  block

sum:
	FOLD_512
	SUM_FOUR
	STORE_FOUR

// func scanTwoAVX512(dst *uint32, planes, codes *uint64, blocks, words int)
TEXT ·scanTwoAVX512(SB), NOSPLIT, $0-40
	SETUP_512

rows:
	PREFETCH_AHEAD
	ROWS_IN_ORDER
	CLEAR_512
	XORL  R15, R15
	TESTQ $32, AX
	JNZ   wide
	TESTQ $24, AX
	JZ    whole
	STEP_2_256(K1)
	JMP   whole

wide:
	STEP_2_512(K1)

whole:
	TO_START
	JZ sum

block:
	STEP_2_512(K2)
	ADDQ $64, R15
	JNZ  block

sum:
	FOLD_512
	SUM_FOUR
	STORE_FOUR

// The scan of AVX2 looks up the bits of each half byte (Mula: VPSHUFB), with a
// table for each plane that has the weight in it. A byte holds at most
// 2*4*(1+2+4+8) = 120, so the planes are added up as bytes, and VPSADBW adds
// eight bytes at a time to a sum. Two rows are taken at once: the registers hold
// the halves and the sums of no more.
//
// Registers: DI dst, SI, R10, R11, R12 the planes, DX codes, CX pairs of rows, AX
// bytes in a row, R8 and R9 the rows, BX the offset in planes and rows, as above
// but for 256 bits; R13 the mask of the tail; Y12 to Y15 the tables, Y0 and Y1
// the sums of the rows. R15 is free, because in a plugin a kernel that reads from
// memory by name (SB) reaches it through R15.

#define NIBBLE_COUNTS(name, weight) \
	DATA name+0x00(SB)/8, $(weight * 0x0302020102010100); \
	DATA name+0x08(SB)/8, $(weight * 0x0403030203020201); \
	DATA name+0x10(SB)/8, $(weight * 0x0302020102010100); \
	DATA name+0x18(SB)/8, $(weight * 0x0403030203020201); \
	GLOBL name(SB), RODATA|NOPTR, $32

NIBBLE_COUNTS(·nibbleOnes, 1)
NIBBLE_COUNTS(·nibbleTwos, 2)
NIBBLE_COUNTS(·nibbleFours, 4)
NIBBLE_COUNTS(·nibbleEights, 8)

DATA ·nibbleMask+0x00(SB)/8, $0x0f0f0f0f0f0f0f0f
DATA ·nibbleMask+0x08(SB)/8, $0x0f0f0f0f0f0f0f0f
DATA ·nibbleMask+0x10(SB)/8, $0x0f0f0f0f0f0f0f0f
DATA ·nibbleMask+0x18(SB)/8, $0x0f0f0f0f0f0f0f0f
GLOBL ·nibbleMask(SB), RODATA|NOPTR, $32

// SPLIT leaves the lower halves of the bytes of the rows in Y2 and Y4, the upper
// ones in Y3 and Y5, and clears the bytes that are counted into, Y8 and Y9.
#define SPLIT \
	VPSRLW $4, Y2, Y3;                 \
	VPSRLW $4, Y4, Y5;                 \
	VPAND  ·nibbleMask(SB), Y3, Y3;    \
	VPAND  ·nibbleMask(SB), Y5, Y5;    \
	VPAND  ·nibbleMask(SB), Y2, Y2;    \
	VPAND  ·nibbleMask(SB), Y4, Y4;    \
	VPXOR  Y8, Y8, Y8;                 \
	VPXOR  Y9, Y9, Y9

// LOOK_UP adds to the bytes what a row, in halves, counts for against the plane
// in Y6 and Y7. What these have in their upper halves the row masks.
#define LOOK_UP(table, low, high, bytes) \
	VPAND   low, Y6, Y10;       \
	VPAND   high, Y7, Y11;      \
	VPSHUFB Y10, table, Y10;    \
	VPSHUFB Y11, table, Y11;    \
	VPADDB  Y10, bytes, bytes;  \
	VPADDB  Y11, bytes, bytes

// AGAINST counts both rows against the plane in Y6.
#define AGAINST(table) \
	VPSRLW $4, Y6, Y7;              \
	LOOK_UP(table, Y2, Y3, Y8);     \
	LOOK_UP(table, Y4, Y5, Y9)

#define BLOCK(plane, table) \
	VMOVDQU (plane)(BX*1), Y6; \
	AGAINST(table)

#define TAIL(plane, table) \
	VMOVDQU    (R13), Y7;     \
	VPMASKMOVQ (plane), Y7, Y6; \
	AGAINST(table)

// ADD_BYTES adds the bytes that were counted to the sums.
#define ADD_BYTES \
	VPXOR   Y10, Y10, Y10; \
	VPSADBW Y10, Y8, Y8;   \
	VPSADBW Y10, Y9, Y9;   \
	VPADDD  Y8, Y0, Y0;    \
	VPADDD  Y9, Y1, Y1

#define SETUP_256 \
	MOVQ    words+32(FP), AX;       \
	SHLQ    $3, AX;                 \
	MOVQ    AX, BX;                 \
	ANDQ    $24, BX;                \
	LEAQ    ·tailMask+128(SB), R13; \
	SUBQ    BX, R13;                \
	MOVQ    AX, BX;                 \
	ANDQ    $-32, BX;               \
	MOVQ    dst+0(FP), DI;          \
	MOVQ    planes+8(FP), SI;       \
	MOVQ    codes+16(FP), DX;       \
	MOVQ    blocks+24(FP), CX;      \
	SHLQ    $1, CX;                 \
	ADDQ    BX, DX;                 \
	ADDQ    BX, SI;                 \
	LEAQ    (SI)(AX*1), R10;        \
	LEAQ    (SI)(AX*2), R11;        \
	LEAQ    (R10)(AX*2), R12;       \
	VMOVDQU ·nibbleOnes(SB), Y12;   \
	VMOVDQU ·nibbleTwos(SB), Y13;   \
	VMOVDQU ·nibbleFours(SB), Y14;  \
	VMOVDQU ·nibbleEights(SB), Y15

// NEXT_PAIR is ROWS_IN_ORDER for two rows; it moves to their start and sets the
// zero flag if they have no 256 bits.
#define NEXT_PAIR \
	VPXOR Y0, Y0, Y0;     \
	VPXOR Y1, Y1, Y1;     \
	MOVQ  DX, R8;         \
	LEAQ  (DX)(AX*1), R9; \
	LEAQ  (DX)(AX*2), DX; \
	MOVQ  AX, BX;         \
	ANDQ  $-32, BX;       \
	NEGQ  BX

#define LOAD_PAIR \
	VMOVDQU (R8)(BX*1), Y2; \
	VMOVDQU (R9)(BX*1), Y4

#define LOAD_PAIR_TAIL \
	VMOVDQU    (R13), Y7;    \
	VPMASKMOVQ (R8), Y7, Y2; \
	VPMASKMOVQ (R9), Y7, Y4

// STORE_PAIR stores the two sums and goes on while there are pairs.
#define STORE_PAIR \
	VPHADDD      Y1, Y0, Y0; \
	VEXTRACTI128 $1, Y0, X1; \
	VPADDD       X1, X0, X0; \
	VPHADDD      X0, X0, X0; \
	VMOVQ        X0, (DI);   \
	ADDQ         $8, DI;     \
	DECQ         CX;         \
	JNZ          rows;       \
	VZEROUPPER;              \
	RET

// func scanFourAVX2(dst *uint32, planes, codes *uint64, blocks, words int)
TEXT ·scanFourAVX2(SB), NOSPLIT, $0-40
	SETUP_256

rows:
	NEXT_PAIR
	JZ tail

block:
	LOAD_PAIR
	SPLIT
	BLOCK(SI, Y12)
	BLOCK(R10, Y13)
	BLOCK(R11, Y14)
	BLOCK(R12, Y15)
	ADD_BYTES
	ADDQ $32, BX
	JNZ  block

tail:
	TESTQ $24, AX
	JZ    sum
	LOAD_PAIR_TAIL
	SPLIT
	TAIL(SI, Y12)
	TAIL(R10, Y13)
	TAIL(R11, Y14)
	TAIL(R12, Y15)
	ADD_BYTES

sum:
	STORE_PAIR

// func scanTwoAVX2(dst *uint32, planes, codes *uint64, blocks, words int)
TEXT ·scanTwoAVX2(SB), NOSPLIT, $0-40
	SETUP_256

rows:
	NEXT_PAIR
	JZ tail

block:
	LOAD_PAIR
	SPLIT
	BLOCK(SI, Y12)
	BLOCK(R10, Y13)
	ADD_BYTES
	ADDQ $32, BX
	JNZ  block

tail:
	TESTQ $24, AX
	JZ    sum
	LOAD_PAIR_TAIL
	SPLIT
	TAIL(SI, Y12)
	TAIL(R10, Y13)
	ADD_BYTES

sum:
	STORE_PAIR
