package engramtest_test

import (
	"testing"
)

// run runs a test as an example can: testing.TB is for the testing package alone
// to implement, so a benchmark of one round is what lends it.
func run(test func(testing.TB)) {
	ran := false
	testing.Benchmark(func(b *testing.B) {
		if !ran {
			ran = true
			test(b)
		}
	})
}
