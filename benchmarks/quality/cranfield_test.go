package main

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/engramdb/engram"
)

const (
	cranfieldDocuments = `.I 1
.T
a wing in a
slipstream .
.A
brenckman,m.
.B
j. ae. scs. 25, 1958, 324.
.W
a wing in a
slipstream .
  an experimental study .
.I 2
.T
heat
.W
of a slab .
.I 3
.T
.A
.B
.W
`
	cranfieldQueries    = ".I 001\r\n.W\r\nwhat wing\r\nis it .\r\n.I 004\r\n.W\r\nunjudged\r\n.I 008\r\n.W\r\nwhat slab\r\n"
	cranfieldJudgements = "1 1 2 \n1 3 4\n1 2 -1\n3 2 1\n"
)

func parseCranfieldSample(documents, queries, judgements string) (collection, error) {
	return parseCranfield(strings.NewReader(documents), strings.NewReader(queries), strings.NewReader(judgements))
}

func TestParseCranfield(t *testing.T) {
	c, err := parseCranfieldSample(cranfieldDocuments, cranfieldQueries, cranfieldJudgements)
	require.NoError(t, err)
	require.Equal(t, collection{
		space: "cranfield",
		memories: []engram.Memory{
			{ID: "1", Content: "a wing in a\nslipstream .\n  an experimental study ."},
			{ID: "2", Content: "heat\nof a slab ."},
		},
		questions: []question{
			{text: "what wing is it .", gold: goldOf("1", "3"), groups: []string{"all"}},
			{text: "what slab", gold: goldOf("2"), groups: []string{"all"}},
		},
	}, c)
}

func TestParseCranfieldRefusesDamage(t *testing.T) {
	_, err := parseCranfieldSample(".W\ntext\n", cranfieldQueries, cranfieldJudgements)
	require.Error(t, err, "a section before the first record")
	_, err = parseCranfieldSample(cranfieldDocuments, ".I x\n", cranfieldJudgements)
	require.Error(t, err, "a query without a number")
	_, err = parseCranfieldSample(cranfieldDocuments, cranfieldQueries, "1 2\n")
	require.Error(t, err, "a judgement without a code")
}
