package verify

import (
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"maps"
	"slices"
	"strings"
)

//go:embed page.html
var pageText string

// WriteHTML writes the report as one page that needs nothing else.
func (r Report) WriteHTML(out io.Writer) error {
	page, err := template.New("page").Funcs(template.FuncMap{
		"figures": figures,
		"ms":      func(milliseconds float64) string { return fmt.Sprintf("%.1f", milliseconds) },
	}).Parse(pageText)
	if err != nil {
		return err
	}
	return page.Execute(out, r)
}

// figures words what was measured, in the order of the names.
func figures(measured map[string]float64) string {
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(measured)) {
		parts = append(parts, fmt.Sprintf("%s %.3g", name, measured[name]))
	}
	return strings.Join(parts, ", ")
}
