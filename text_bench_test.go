package engram

import (
	"strings"
	"testing"
)

func BenchmarkAnalyze(b *testing.B) {
	const sentence = "Caroline: I went to an LGBTQ support group yesterday and it was so powerful. " +
		"The transgender stories were inspiring, I'm thankful for everyone's support, and we'll meet again on 12 May at Zoë's café! "
	for _, text := range []struct {
		name, content string
	}{
		{"200B", sentence[:200]},
		{"20KiB", strings.Repeat(sentence, 100)},
	} {
		b.Run(text.name, func(b *testing.B) {
			b.SetBytes(int64(len(text.content)))
			b.ReportAllocs()
			for b.Loop() {
				English.analyze(text.content)
			}
		})
	}
}
