// What the integer kernels share: the addresses of the four rows they take at
// once, and the end of four sums.
//
// Registers: DI dst, SI query, DX codes, BX list of rows or 0, CX blocks of four
// rows, AX bytes in a row, R8 to R11 the four rows.

// ROWS_IN_ORDER points R8 to R11 at the next four rows in the codes, which DX
// then leaves behind.
#define ROWS_IN_ORDER \
	MOVQ  DX, R8;         \
	LEAQ  (DX)(AX*1), R9; \
	LEAQ  (DX)(AX*2), R10;\
	LEAQ  (R9)(AX*2), R11;\
	LEAQ  (DX)(AX*4), DX

// NEXT_ROWS points R8 to R11 at the next four rows: those that the list names,
// or, without a list, the next in order.
#define NEXT_ROWS \
	TESTQ BX, BX;         \
	JZ    inorder;        \
	MOVL  (BX), R8;       \
	MOVL  4(BX), R9;      \
	MOVL  8(BX), R10;     \
	MOVL  12(BX), R11;    \
	ADDQ  $16, BX;        \
	IMULQ AX, R8;         \
	IMULQ AX, R9;         \
	IMULQ AX, R10;        \
	IMULQ AX, R11;        \
	ADDQ  DX, R8;         \
	ADDQ  DX, R9;         \
	ADDQ  DX, R10;        \
	ADDQ  DX, R11;        \
	JMP   pointed;        \
inorder: \
	ROWS_IN_ORDER;        \
pointed:

// PREFETCH_ROWS asks for the four rows after the next four of a list. They are
// anywhere, and a processor looks ahead no further than a row or two. It comes
// before NEXT_ROWS.
#define PREFETCH_ROWS \
	TESTQ      BX, BX;         \
	JZ         asked;          \
	CMPQ       CX, $1;         \
	JEQ        asked;          \
	MOVL       16(BX), R8;     \
	MOVL       20(BX), R9;     \
	MOVL       24(BX), R10;    \
	MOVL       28(BX), R11;    \
	IMULQ      AX, R8;         \
	IMULQ      AX, R9;         \
	IMULQ      AX, R10;        \
	IMULQ      AX, R11;        \
	ADDQ       DX, R8;         \
	ADDQ       DX, R9;         \
	ADDQ       DX, R10;        \
	ADDQ       DX, R11;        \
	XORL       R15, R15;       \
ask: \
	PREFETCHT0 (R8)(R15*1);    \
	PREFETCHT0 (R9)(R15*1);    \
	PREFETCHT0 (R10)(R15*1);   \
	PREFETCHT0 (R11)(R15*1);   \
	ADDQ       $64, R15;       \
	CMPQ       R15, AX;        \
	JLT        ask;            \
asked:

// FOLD_512 leaves in Y0 to Y3 the sums of the halves of Z0 to Z3.
#define FOLD_512 \
	VEXTRACTI64X4 $1, Z0, Y4; \
	VEXTRACTI64X4 $1, Z1, Y5; \
	VEXTRACTI64X4 $1, Z2, Y6; \
	VEXTRACTI64X4 $1, Z3, Y7; \
	VPADDD        Y4, Y0, Y0; \
	VPADDD        Y5, Y1, Y1; \
	VPADDD        Y6, Y2, Y2; \
	VPADDD        Y7, Y3, Y3

// SUM_FOUR leaves in X0 the four sums of the eight numbers in each of Y0 to Y3.
#define SUM_FOUR \
	VPHADDD      Y1, Y0, Y0;  \
	VPHADDD      Y3, Y2, Y2;  \
	VPHADDD      Y2, Y0, Y0;  \
	VEXTRACTI128 $1, Y0, X1;  \
	VPADDD       X1, X0, X0

// STORE_FOUR stores them and goes on while there are blocks.
#define STORE_FOUR \
	VMOVDQU X0, (DI);  \
	ADDQ    $16, DI;   \
	DECQ    CX;        \
	JNZ     rows;      \
	VZEROUPPER;        \
	RET
