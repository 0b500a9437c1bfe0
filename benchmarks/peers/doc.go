// Package peers measures engram beside other engines on the same data in the
// same run. It is all benchmarks:
//
//	go test -bench . ./benchmarks/peers
//
// Rounds of the engines alternate, and what is reported is the median of the
// rounds' ratios: these machines are noisy, and a ratio of two figures that were
// taken at different times says little.
package peers
