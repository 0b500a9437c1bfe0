package main

import (
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
)

const moduleRoot = "../.."

// A change of the sources that moves what a mutant changes must move the mutant.
func TestMutantsApply(t *testing.T) {
	var misplaced []error
	for name, list := range lists() {
		names := make(map[string]bool)
		for _, m := range list {
			require.False(t, names[m.name], "%s: there are two %q", name, m.name)
			names[m.name] = true
			require.NotEmpty(t, m.what, m.name)
			require.NotEmpty(t, m.edits, m.name)
			changed, err := m.mutate(moduleRoot)
			if err != nil {
				misplaced = append(misplaced, fmt.Errorf("%s: %s: %w", name, m.name, err))
			}
			for file, content := range changed {
				original, err := os.ReadFile(filepath.Join(moduleRoot, file))
				require.NoError(t, err)
				require.NotEqual(t, string(original), content, "%s: %s changes nothing", name, m.name)
				if unused := unusedImports(t, content); unused != nil {
					misplaced = append(misplaced, fmt.Errorf("%s: %s: %s does not compile, it does not use %s any more", name, m.name, file, unused))
				}
			}
		}
	}
	require.NoError(t, errors.Join(misplaced...))
}

// unusedImports returns the packages that a source imports and does not use: what
// most often becomes of a mutant that does not compile, where compiling each would take
// minutes. It takes a package for named by the end of its path, as all here are.
func unusedImports(t *testing.T, source string) (unused []string) {
	file, err := parser.ParseFile(token.NewFileSet(), "", source, parser.SkipObjectResolution)
	require.NoError(t, err)
	used := make(map[string]bool)
	ast.Inspect(file, func(n ast.Node) bool {
		if selector, found := n.(*ast.SelectorExpr); found {
			if x, found := selector.X.(*ast.Ident); found {
				used[x.Name] = true
			}
		}
		return true
	})
	for _, imported := range file.Imports {
		whole, err := strconv.Unquote(imported.Path.Value)
		require.NoError(t, err)
		name := path.Base(versionSuffix.ReplaceAllString(whole, ""))
		if imported.Name != nil {
			name = imported.Name.Name
		}
		if name != "_" && !used[name] {
			unused = append(unused, whole)
		}
	}
	return unused
}

var versionSuffix = regexp.MustCompile(`/v[0-9]+$`)

func TestUnusedImports(t *testing.T) {
	source := "package p\nimport (\n\t\"a/rand/v2\"\n\tx \"a/y\"\n\t_ \"a/z\"\n\t\"strings\"\n)\nvar _ = rand.N + x.M\n"
	require.Equal(t, []string{"strings"}, unusedImports(t, source))
	require.Empty(t, unusedImports(t, source+"var _ = strings.Clone\n"))
}

// The tests that a mutant names exist.
func TestMutantsHaveTests(t *testing.T) {
	declared := regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)\w+)\(`)
	for _, list := range lists() {
		for _, m := range list {
			files, err := filepath.Glob(filepath.Join(moduleRoot, m.pkg, "*_test.go"))
			require.NoError(t, err)
			found := make(map[string]bool)
			for _, file := range files {
				content, err := os.ReadFile(file)
				require.NoError(t, err)
				for _, match := range declared.FindAllStringSubmatch(string(content), -1) {
					found[match[1]] = true
				}
			}
			require.True(t, m.hasTests(found), "%s: no test %s", m.name, m.tests)
		}
	}
}

// docs/durability.md lists the mutants with the tests that kill them.
func TestMutantsAreDocumented(t *testing.T) {
	content, err := os.ReadFile(filepath.Join(moduleRoot, "docs/durability.md"))
	require.NoError(t, err)
	rows := regexp.MustCompile("(?m)^\\| ([a-z-]+) \\| (.*) \\| `(\\w+)` \\|$").FindAllStringSubmatch(string(content), -1)
	listed := make([]string, 0, len(rows))
	for _, row := range rows {
		listed = append(listed, row[1])
	}
	names := make([]string, 0, len(rows))
	for i, m := range durability() {
		names = append(names, m.name)
		if i < len(rows) {
			require.Equal(t, m.what, rows[i][2], m.name)
			require.True(t, m.hasTests(map[string]bool{rows[i][3]: true}), "%s is not killed by %s", m.name, rows[i][3])
		}
	}
	require.Equal(t, names, listed)
}

// docs/isolation.md lists the leaks.
func TestLeaksAreDocumented(t *testing.T) {
	content, err := os.ReadFile(filepath.Join(moduleRoot, "docs/isolation.md"))
	require.NoError(t, err)
	rows := regexp.MustCompile(`(?m)^\| ([a-z-]+) \| ([a-z]+) \| (.*) \|$`).FindAllStringSubmatch(string(content), -1)
	var listed, want [][]string
	for _, row := range rows {
		listed = append(listed, row[1:])
	}
	for _, m := range leaks() {
		want = append(want, []string{m.name, m.layer, m.what})
	}
	require.Equal(t, want, listed)
}

func TestMutate(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "a.go"), []byte("one two two three"), 0o600))
	for _, c := range []struct {
		edits []edit
		want  string
		err   error
	}{
		{edits: []edit{{"a.go", "one", "1"}}, want: "1 two two three"},
		{edits: []edit{{"a.go", "one", "1"}, {"a.go", "three", "3"}}, want: "1 two two 3"},
		{edits: []edit{{"a.go", "four", "4"}}, err: errNoText},
		{edits: []edit{{"a.go", "two", "2"}}, err: errManyTexts},
		{edits: []edit{{"a.go", "one two", "1"}, {"a.go", "one", "1"}}, err: errOverlap},
		{edits: []edit{{"a.go", "one", "three"}, {"a.go", "three", "3"}}, err: errOverlap},
		{edits: []edit{{"b.go", "one", "1"}}, err: os.ErrNotExist},
	} {
		changed, err := mutant{edits: c.edits}.mutate(dir)
		require.ErrorIs(t, err, c.err)
		if c.err == nil {
			require.Equal(t, map[string]string{"a.go": c.want}, changed)
		}
	}
}

func TestJudge(t *testing.T) {
	failed := errors.New("exit status 2")
	for name, c := range map[string]struct {
		output string
		failed error
		killer string
		how    string
		tried  bool
	}{
		"survives":          {output: "=== RUN   TestA\n--- PASS: TestA (0.00s)\nPASS\n", tried: true},
		"runs nothing":      {output: "testing: warning: no tests to run\nPASS\n"},
		"skips":             {output: "=== RUN   TestA\n--- SKIP: TestA (0.00s)\nPASS\n"},
		"does not start":    {output: "permission denied", failed: failed},
		"fails":             {output: "=== RUN   TestA\n--- PASS: TestA (0.00s)\n=== RUN   TestB\n--- FAIL: TestB (0.00s)\nFAIL\n", failed: failed, killer: "TestB", tried: true},
		"fails below":       {output: "=== RUN   TestA\n=== RUN   TestA/one\n--- FAIL: TestA (0.00s)\n    --- FAIL: TestA/one (0.00s)\n", failed: failed, killer: "TestA", tried: true},
		"panics":            {output: "=== RUN   TestA\n--- FAIL: TestA (0.00s)\npanic: runtime error\n", failed: failed, killer: "TestA", how: ", which panics", tried: true},
		"panics beside":     {output: "=== RUN   TestA\n--- PASS: TestA (0.00s)\n=== RUN   TestB\npanic: runtime error\n", failed: failed, killer: "TestB", how: ", which panics", tried: true},
		"takes too long":    {output: "=== RUN   TestA\npanic: test timed out after 1m30s\n", failed: failed, killer: "TestA", how: ", which hangs", tried: true},
		"hangs for a seed":  {output: "=== RUN   TestA\npanic: hangs: ENGRAM_CRASH_SEED=1\n", failed: failed, killer: "TestA", how: ", which hangs", tried: true},
		"ends without word": {output: "=== RUN   TestA\n", failed: failed, killer: "TestA", tried: true},
	} {
		killer, how, err := judge([]byte(c.output), c.failed)
		require.Equal(t, c.killer, killer, name)
		require.Equal(t, c.how, how, name)
		require.Equal(t, c.tried, err == nil, name)
	}
}
