package engram_test

import (
	"bytes"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// The rules of the house that a compiler does not know. They read the sources
// of the module at hand.

// sourceFile is a Go file of this module: its slash-separated name and syntax.
type sourceFile struct {
	name string
	*ast.File
	set *token.FileSet
}

func (f sourceFile) isTest() bool { return strings.HasSuffix(f.name, "_test.go") }

// isDoor reports whether f is one of the files that may reach the file system.
func (f sourceFile) isDoor() bool {
	return regexp.MustCompile(`^(fs|fs_[a-z]+|lock_[a-z]+)\.go$`).MatchString(f.name)
}

// isTool reports whether f is of a program that works on the sources, or of the
// tests of all modules. The rules that keep the library testable are not for it.
func (f sourceFile) isTool() bool {
	return strings.HasPrefix(f.name, "internal/mutants/") || strings.HasPrefix(f.name, "internal/noninterference/")
}

func (f sourceFile) at(node ast.Node) string {
	return f.name + ":" + strconv.Itoa(f.set.Position(node.Pos()).Line)
}

// imports calls visit with the path of each import and the name it has in the file.
func (f sourceFile) imports(visit func(spec *ast.ImportSpec, importPath, name string)) {
	for _, spec := range f.Imports {
		importPath, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			panic(err) // the parser has accepted it
		}
		name := path.Base(importPath)
		if spec.Name != nil {
			name = spec.Name.Name
		}
		visit(spec, importPath, name)
	}
}

// uses calls visit with each name that the file uses of the package.
func (f sourceFile) uses(importPath string, visit func(node ast.Node, name string)) {
	f.imports(func(_ *ast.ImportSpec, imported, local string) {
		if imported != importPath {
			return
		}
		ast.Inspect(f.File, func(node ast.Node) bool {
			selector, ok := node.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			if x, ok := selector.X.(*ast.Ident); ok && x.Name == local {
				visit(selector, selector.Sel.Name)
			}
			return true
		})
	})
}

// moduleFiles parses all Go files of the root module; the nested modules have a
// go.mod of their own and are left out.
func moduleFiles(t *testing.T) []sourceFile {
	t.Helper()
	var files []sourceFile
	require.NoError(t, filepath.WalkDir(".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() {
			_, err := os.Stat(filepath.Join(name, "go.mod"))
			hidden := strings.HasPrefix(entry.Name(), ".") || entry.Name() == "testdata"
			if name != "." && (hidden || err == nil) {
				return fs.SkipDir
			}
			return nil
		}
		if filepath.Ext(name) != ".go" {
			return nil
		}
		set := token.NewFileSet()
		file, err := parser.ParseFile(set, name, nil, parser.ParseComments|parser.SkipObjectResolution)
		files = append(files, sourceFile{filepath.ToSlash(name), file, set})
		return err
	}))
	require.Greater(t, len(files), 20)
	return files
}

var (
	libraryModules = []string{
		"github.com/google/btree", "github.com/kljensen/snowball", "go.uber.org/zap", "golang.org/x/sys",
	}
	testModules = []string{"github.com/anishathalye/porcupine", "github.com/stretchr/testify", "pgregory.net/rapid"}
)

// inModule reports whether the package of that import path is in one of the modules.
func inModule(importPath string, modules []string) bool {
	return slices.ContainsFunc(modules, func(module string) bool {
		return importPath == module || strings.HasPrefix(importPath, module+"/")
	})
}

func TestPolicyDependencies(t *testing.T) {
	content, err := os.ReadFile("go.mod")
	require.NoError(t, err)
	direct := regexp.MustCompile(`(?m)^(?:require)?\s+(\S+\.\S+/\S+) v\S+$`)
	var required []string
	for _, match := range direct.FindAllStringSubmatch(string(content), -1) {
		required = append(required, match[1])
	}
	require.ElementsMatch(t, append(slices.Clone(libraryModules), testModules...), required)
	require.NotRegexp(t, `(?m)^(replace|tool|exclude)`, string(content), "it would leak into, or be lost on, who embeds it")

	own := []string{"github.com/engramdb/engram"}
	for _, file := range moduleFiles(t) {
		file.imports(func(spec *ast.ImportSpec, importPath, _ string) {
			standard := !strings.Contains(strings.Split(importPath, "/")[0], ".")
			allowed := standard || inModule(importPath, own) || inModule(importPath, libraryModules) ||
				file.isTest() && inModule(importPath, testModules)
			require.True(t, allowed, "%s imports %s", file.at(spec), importPath)
		})
	}
}

func TestPolicyNoTransport(t *testing.T) {
	transports := []string{"net", "google.golang.org/grpc", "github.com/spf13", "nhooyr.io", "github.com/gorilla"}
	for _, file := range moduleFiles(t) {
		file.imports(func(spec *ast.ImportSpec, importPath, _ string) {
			require.False(t, inModule(importPath, transports), "%s imports %s", file.at(spec), importPath)
		})
	}
}

// Only fs*.go and lock_*.go reach files: what goes past them no fault test sees.
func TestPolicyFilesBehindOneDoor(t *testing.T) {
	allowed := map[string]*regexp.Regexp{
		"os":            regexp.MustCompile(`^Getpid$`),
		"syscall":       regexp.MustCompile(`^(E[A-Z0-9]+|Errno)$`),
		"path/filepath": regexp.MustCompile(`^(Abs|Base|Clean|Dir|Ext|FromSlash|IsAbs|IsLocal|Join|Rel|ToSlash)$`),
	}
	forbidden := []string{"io/ioutil", "os/exec", "golang.org/x/sys/unix", "golang.org/x/sys/windows"}
	doors := 0
	for _, file := range moduleFiles(t) {
		if file.isTest() || file.isTool() {
			continue
		}
		if file.isDoor() {
			doors++
			continue
		}
		for importPath, names := range allowed {
			file.uses(importPath, func(node ast.Node, name string) {
				require.Regexp(t, names, name, "%s: %s", file.at(node), importPath)
			})
		}
		file.imports(func(spec *ast.ImportSpec, importPath, name string) {
			require.NotContains(t, forbidden, importPath, file.at(spec))
			require.NotEqual(t, ".", name, file.at(spec))
		})
	}
	require.Positive(t, doors)
}

// Only clock.go tells the time: what goes past it no test can stop.
func TestPolicyTimeBehindOneDoor(t *testing.T) {
	clock := []string{"Now", "Since", "Until", "Sleep", "After", "AfterFunc", "Tick", "NewTimer", "NewTicker"}
	inClock := 0
	for _, file := range moduleFiles(t) {
		file.uses("time", func(node ast.Node, name string) {
			switch {
			case file.isTest() || file.isTool():
			case file.name == "clock.go":
				inClock++
			default:
				require.NotContains(t, clock, name, file.at(node))
			}
		})
	}
	require.Positive(t, inClock)
}

// The files that compute are pure, so that replay gives the same answer.
func TestPolicyPureFiles(t *testing.T) {
	pure := []string{
		"store.go", "image.go", "image_build.go", "image_decode.go", "recent.go", "interned.go", "rebase.go", "view.go", "columns.go",
		"recall.go", "recall_text.go", "recall_episode.go", "recall_feedback.go", "curve.go", "recent_terms.go", "forward.go", "vector.go", "when.go",
		"graph.go", "spread.go", "similar.go", "record.go", "operation.go", "group.go", "text.go", "fold.go", "cue.go", "memory.go",
	}
	impure := []string{
		"go.uber.org/zap", "github.com/engramdb/engram/internal/vfs", "os", "io/fs", "crypto/rand", "math/rand", "math/rand/v2",
	}
	seen := 0
	for _, file := range moduleFiles(t) {
		if !slices.Contains(pure, file.name) {
			continue
		}
		seen++
		file.imports(func(spec *ast.ImportSpec, importPath, _ string) {
			require.NotContains(t, impure, importPath, file.at(spec))
		})
		ast.Inspect(file.File, func(node ast.Node) bool {
			if statement, ok := node.(*ast.GoStmt); ok {
				require.Fail(t, "starts a goroutine", file.at(statement))
			}
			return true
		})
	}
	require.Len(t, pure, seen, "a file of the list is gone")
}

func TestPolicyNoInit(t *testing.T) {
	for _, file := range moduleFiles(t) {
		for _, declaration := range file.Decls {
			function, ok := declaration.(*ast.FuncDecl)
			require.False(t, ok && function.Recv == nil && function.Name.Name == "init", file.name)
		}
	}
}

// Every exported name of the library says what it is.
func TestPolicyDocComments(t *testing.T) {
	packageDocs := 0
	for _, file := range moduleFiles(t) {
		if file.isTest() || path.Dir(file.name) != "." {
			continue
		}
		if file.Doc != nil {
			packageDocs++
		}
		for _, declaration := range file.Decls {
			switch d := declaration.(type) {
			case *ast.FuncDecl:
				if d.Name.IsExported() && hasExportedReceiver(d) {
					require.NotNil(t, d.Doc, "%s: %s", file.at(d), d.Name.Name)
				}
			case *ast.GenDecl:
				requireSpecDocs(t, file, d)
			}
		}
	}
	require.Equal(t, 1, packageDocs, "one file documents the package")
}

// hasExportedReceiver reports whether a function is none, or a method of an
// exported type. Error and the like speak for themselves.
func hasExportedReceiver(d *ast.FuncDecl) bool {
	if d.Recv == nil {
		return true
	}
	if d.Name.Name == "Error" || d.Name.Name == "Unwrap" {
		return false
	}
	receiver := d.Recv.List[0].Type
	if star, ok := receiver.(*ast.StarExpr); ok {
		receiver = star.X
	}
	name, ok := receiver.(*ast.Ident)
	return ok && name.IsExported()
}

// requireSpecDocs accepts a comment on the group, above the name or behind it.
func requireSpecDocs(t *testing.T, file sourceFile, d *ast.GenDecl) {
	for _, spec := range d.Specs {
		switch s := spec.(type) {
		case *ast.TypeSpec:
			documented := d.Doc != nil || s.Doc != nil
			require.True(t, documented || !s.Name.IsExported(), "%s: %s", file.at(s), s.Name.Name)
		case *ast.ValueSpec:
			documented := d.Doc != nil || s.Doc != nil || s.Comment != nil
			for _, name := range s.Names {
				require.True(t, documented || !name.IsExported(), "%s: %s", file.at(s), name.Name)
			}
		}
	}
}

func readme(t *testing.T) string {
	t.Helper()
	content, err := os.ReadFile("README.md")
	require.NoError(t, err)
	require.LessOrEqual(t, bytes.Count(content, []byte("\n")), 200, "lines")
	return string(content)
}

// namedInReadme returns the files of which the README says what they are about, each
// in backquotes and without.
func namedInReadme(t *testing.T) [][]string {
	t.Helper()
	_, reading, found := strings.Cut(readme(t), "\n## Reading the source\n")
	require.True(t, found)
	named := regexp.MustCompile("`([a-z_]+\\.go)`").FindAllStringSubmatch(reading, -1)
	require.Greater(t, len(named), 5)
	return named
}

// Who looks for something finds its file in the README: all of them stand there, but
// what fs.go has for one system.
func TestPolicyReadmeNamesEveryFile(t *testing.T) {
	named := namedInReadme(t)
	for _, file := range moduleFiles(t) {
		if file.isTest() || path.Dir(file.name) != "." || strings.HasPrefix(file.name, "fs_") {
			continue
		}
		require.True(t, slices.ContainsFunc(named, func(match []string) bool { return match[1] == file.name }), file.name)
	}
}

func TestPolicyReadmeFilesExist(t *testing.T) {
	text, named := readme(t), namedInReadme(t)
	linked := regexp.MustCompile(`\]\(([^):#]+)\)`).FindAllStringSubmatch(text, -1)
	require.Greater(t, len(linked), 5)
	for _, match := range append(named, linked...) {
		require.FileExists(t, match[1])
	}
}

// The README shows the package's Example as it compiles and runs.
func TestPolicyReadmeExample(t *testing.T) {
	source, err := os.ReadFile("example_test.go")
	require.NoError(t, err)
	_, body, found := strings.Cut(string(source), "\nfunc Example() {\n")
	require.True(t, found)
	_, body, found = strings.Cut(body, "\n\n")
	require.True(t, found)
	body, _, found = strings.Cut(body, "\t// Output:\n")
	require.True(t, found)
	body = regexp.MustCompile(`(?m)^\t`).ReplaceAllString(body, "")

	_, shown, found := strings.Cut(readme(t), "\n```go\n")
	require.True(t, found)
	shown, _, found = strings.Cut(shown, "```\n")
	require.True(t, found)
	require.Equal(t, body, shown)
	require.LessOrEqual(t, strings.Count(shown, "\n"), 15, "lines")
}

// No product is added to anything with one rounding where a processor can: answers
// would differ in their last bits between it and others. An explicit conversion of the
// product keeps it apart.
func TestPolicyNoFusedProducts(t *testing.T) {
	if os.Getenv("ENGRAM_CROSS") == "" {
		t.Skip("compiles the library for another processor; make cross does")
	}
	build := exec.Command("go", "build", "-gcflags=-S", ".", "./internal/rabitq", "./internal/simd")
	build.Env = append(os.Environ(), "GOOS=darwin", "GOARCH=arm64", "CGO_ENABLED=0", "GOWORK=off")
	listing, err := build.CombinedOutput()
	require.NoError(t, err)
	require.Contains(t, string(listing), "FMULD")
	fused := regexp.MustCompile(`(\w+\.go:\d+)\)\tFN?M(ADD|SUB)[SD]\t`)
	for _, found := range fused.FindAllSubmatch(listing, -1) {
		t.Errorf("%s adds a product that was not rounded", found[1])
	}
}

// What is tracked names no place of the machine it was written on.
func TestPolicyNoMachinePaths(t *testing.T) {
	t.Parallel()
	listed, err := exec.Command("git", "ls-files", "-z").Output()
	if err != nil {
		t.Skip("not a git checkout, so nothing is tracked")
	}
	machinePath := regexp.MustCompile(`(^|[^\w.])/(wor[k]|roo[t]|hom[e]|User[s]|tm[p])/[\w.]`)
	for name := range strings.SplitSeq(strings.TrimRight(string(listed), "\x00"), "\x00") {
		content, err := os.ReadFile(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue // removed, not yet committed
		}
		require.NoError(t, err)
		if bytes.ContainsRune(content, 0) || strings.HasSuffix(name, ".sum") {
			continue
		}
		require.Empty(t, machinePath.FindString(string(content)), name)
	}
}
