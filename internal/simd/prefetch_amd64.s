#include "textflag.h"

// func prefetch(p unsafe.Pointer, bytes int)
TEXT ·prefetch(SB), NOSPLIT, $0-16
	MOVQ p+0(FP), R8
	MOVQ bytes+8(FP), R9
	ADDQ R8, R9
	ANDQ $-64, R8 // to the start of the first line

line:
	PREFETCHT0 (R8)
	ADDQ       $64, R8
	CMPQ       R8, R9
	JLT        line
	RET
