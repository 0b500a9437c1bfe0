// Package edits compares names as people mistype them.
package edits

// Distance returns how many bytes have to be put in, left out or replaced to
// make b of a (Levenshtein's distance, by rows), or most+1 where that is more
// than most: it stops as soon as it knows. It takes time in len(a) x len(b).
func Distance(a, b string, most int) int {
	if max(len(a)-len(b), len(b)-len(a)) > most {
		return most + 1
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		least := row[0]
		for j := range len(b) {
			replaced := diagonal
			if a[i] != b[j] {
				replaced++
			}
			diagonal = row[j+1]
			row[j+1] = min(replaced, row[j]+1, diagonal+1)
			least = min(least, row[j+1])
		}
		if least > most { // no later row has less
			return most + 1
		}
	}
	return min(row[len(b)], most+1)
}
