package engram

// curve is how BM25 weighs how often a term occurs: a count is divided by what
// the document's length makes of it, and saturates. What depends on nothing but
// the length is kept for short documents, from one recall to the next as long as
// the parameters are the same.
type curve struct {
	k1, b, average float64 // average is of the documents' lengths

	norms  [keptLengths]float64 // by length: what divides a count
	single [keptLengths]float64 // by length: the weight of a term that occurs once
}

// keptLengths is how many lengths have their values at hand.
const keptLengths = 128

// bend sets the parameters.
func (c *curve) bend(k1, b, average float64) {
	if k1 == c.k1 && b == c.b && average == c.average {
		return
	}
	c.k1, c.b, c.average = k1, b, average
	for length := range uint32(keptLengths) {
		c.norms[length] = c.normOf(length)
		c.single[length] = c.saturate(1 / c.norms[length])
	}
}

func (c *curve) saturate(f float64) float64 { return f * (c.k1 + 1) / (f + c.k1) }

// quotient is what a count saturates to where norm divides it, but for the last
// bits: one division instead of two.
func (c *curve) quotient(count uint32, norm float64) float64 {
	return float64(count) * (c.k1 + 1) / (float64(count) + float64(c.k1*norm))
}

// normOf is what divides a term's count in a document of that length.
func (c *curve) normOf(length uint32) float64 {
	return 1 - c.b + c.b*float64(length)/c.average
}

// frequency is a term's count in a document of that length, normalised.
func (c *curve) frequency(length, count uint32) float64 {
	if length < keptLengths {
		return float64(count) / c.norms[length]
	}
	return float64(count) / c.normOf(length)
}

// weight is what the frequency saturates to.
func (c *curve) weight(length, count uint32) float64 {
	if count == 1 && length < keptLengths {
		return c.single[length]
	}
	return c.saturate(c.frequency(length, count))
}
