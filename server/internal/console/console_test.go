package console_test

import (
	"path"
	"regexp"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/engramdb/engram/server/internal/console"
)

// TestPageReferencesEveryFile: what the page needs is embedded, and nothing else
// is.
func TestPageReferencesEveryFile(t *testing.T) {
	files := console.Files()
	inPage := regexp.MustCompile(`(?:src|href)="console/([^"]+)"`)
	inModule := regexp.MustCompile(`(?m)^import [^;]*?"\./([^"]+)";$`)
	reached := map[string]bool{}
	var visit func(name string)
	visit = func(name string) {
		require.Contains(t, files, name)
		if reached[name] {
			return
		}
		reached[name] = true
		references := inModule
		if path.Ext(name) == ".html" {
			references = inPage
		}
		for _, match := range references.FindAllSubmatch(files[name].Body, -1) {
			visit(string(match[1]))
		}
	}
	visit(console.Page)
	for name, file := range files {
		require.True(t, reached[name], "%s is not referenced", name)
		require.NotEmpty(t, file.Type, name)
	}
	require.Greater(t, len(files), 10)
}

// TestFilesNeedNobodyElse: no address but the server's own, and nothing that the
// policy would refuse.
func TestFilesNeedNobodyElse(t *testing.T) {
	for name, file := range console.Files() {
		text := regexp.MustCompile(`http://www\.w3\.org/2000/svg`).ReplaceAllString(string(file.Body), "")
		require.NotRegexp(t, `(?i)(https?:)?//[a-z0-9-]+\.[a-z]`, text, name)
		require.NotRegexp(t, `@import|\burl\(`, text, name)
		require.NotRegexp(t, `(?i)\b(innerHTML|outerHTML|insertAdjacentHTML|document\.write|DOMParser|setHTML\w*|srcdoc|eval|new Function|javascript:)`, text, name)
		if path.Ext(name) == ".html" {
			require.NotRegexp(t, `(?is)<style|\sstyle=|\son[a-z]+=|<base|<iframe`, text, name)
			scripts := regexp.MustCompile(`(?is)<script[^>]*>.*?</script>`).FindAllString(text, -1)
			require.Len(t, scripts, 1)
			require.Regexp(t, `^<script type="module" src="console/[a-z]+\.js"></script>$`, scripts[0])
		}
	}
}
