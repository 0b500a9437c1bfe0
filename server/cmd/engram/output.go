package main

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"text/tabwriter"
	"unicode"
)

// outputFormat is the value of --output.
type outputFormat string

const (
	asTable outputFormat = "table"
	asJSON  outputFormat = "json"
)

// String implements pflag.Value. The zero value is a table.
func (f *outputFormat) String() string {
	if *f == "" {
		return string(asTable)
	}
	return string(*f)
}

// Set implements pflag.Value.
func (f *outputFormat) Set(s string) error {
	switch outputFormat(s) {
	case asTable, asJSON:
		*f = outputFormat(s)
		return nil
	}
	return fmt.Errorf("must be %s or %s", asTable, asJSON)
}

// Type implements pflag.Value.
func (f *outputFormat) Type() string { return "format" }

// maxCellRunes is how much of a text a table shows.
const maxCellRunes = 100

// table is an answer for people: a header and rows, or only rows.
type table struct {
	header []string
	rows   [][]string
	uncut  bool // show texts of any length
}

func (t *table) add(cells ...string) { t.rows = append(t.rows, cells) }

// emit writes an answer: v as one line of JSON for machines, or the table.
func (a *app) emit(v any, t *table) error {
	if a.output == asJSON {
		return json.NewEncoder(a.out).Encode(v)
	}
	return t.write(a.out)
}

func (t *table) write(out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	rows := t.rows
	if t.header != nil {
		rows = append([][]string{t.header}, rows...)
	}
	for _, row := range rows {
		for i, cell := range row {
			row[i] = printable(cell, t.maxRunes())
		}
		if _, err := fmt.Fprintln(w, strings.Join(row, "\t")); err != nil {
			return err
		}
	}
	return w.Flush()
}

func (t *table) maxRunes() int {
	if t.uncut {
		return math.MaxInt
	}
	return maxCellRunes
}

// counted is a number with the noun that it counts.
func counted(n int, one, more string) string {
	if n == 1 {
		return "1 " + one
	}
	return strconv.Itoa(n) + " " + more
}

// printable makes one line of s that cannot command a terminal, and cuts it
// after maxRunes. Stored text is somebody else's: it may hold escape codes.
func printable(s string, maxRunes int) string {
	var b strings.Builder
	n := 0
	for _, r := range s {
		if n++; n > maxRunes {
			b.WriteString("...")
			break
		}
		switch {
		case unicode.IsPrint(r):
			b.WriteRune(r)
		case unicode.IsSpace(r):
			b.WriteByte(' ')
		default:
			b.WriteRune(unicode.ReplacementChar)
		}
	}
	return b.String()
}

// printableLines is printable for each line of a text, uncut: a server's word on an
// error is somebody else's too.
func printableLines(s string) string {
	lines := strings.Split(s, "\n")
	for i, line := range lines {
		lines[i] = printable(line, math.MaxInt)
	}
	return strings.Join(lines, "\n")
}
