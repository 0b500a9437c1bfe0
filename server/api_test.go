package server_test

import (
	"bytes"
	"fmt"
	"go/importer"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const serverPath = "github.com/engramdb/engram/server"

// TestAPINeedsNothingInternal: a program outside of the module can make and use all
// that package server exports.
func TestAPINeedsNothingInternal(t *testing.T) {
	pkg := importCompiled(t, serverPath)
	api := api{home: pkg, met: map[types.Type]bool{}}
	for _, name := range pkg.Scope().Names() {
		if object := pkg.Scope().Lookup(name); object.Exported() {
			api.visit(name, object.Type())
		}
	}
	require.True(t, api.met[pkg.Scope().Lookup("Options").Type()], "the types are not looked at")
	require.Empty(t, api.hidden)
}

// importCompiled returns the types of a package as the compiler exports them.
func importCompiled(t *testing.T, path string) *types.Package {
	t.Helper()
	list := exec.Command("go", "list", "-export", "-deps", "-f", "{{.ImportPath}}={{.Export}}", path)
	list.Stderr = os.Stderr
	out, err := list.Output()
	require.NoError(t, err)
	files := map[string]string{}
	for line := range bytes.Lines(out) {
		path, file, _ := strings.Cut(strings.TrimSpace(string(line)), "=")
		files[path] = file
	}
	pkg, err := importer.ForCompiler(token.NewFileSet(), "gc", func(path string) (io.ReadCloser, error) {
		return os.Open(files[path])
	}).Import(path)
	require.NoError(t, err)
	return pkg
}

// api finds the types that what a package exports is made of.
type api struct {
	home   *types.Package
	met    map[types.Type]bool
	hidden []string // uses of types that no other module can name
}

// visit looks at a type and at what its user meets in it.
func (a *api) visit(use string, t types.Type) {
	t = types.Unalias(t)
	if a.met[t] {
		return
	}
	switch t := t.(type) {
	case *types.Named:
		a.visitNamed(use, t)
	case *types.Struct:
		a.met[t] = true
		for field := range t.Fields() {
			if field.Exported() {
				a.visit(use+"."+field.Name(), field.Type())
			}
		}
	case *types.Signature:
		for _, tuple := range []*types.Tuple{t.Params(), t.Results()} {
			for v := range tuple.Variables() {
				a.visit(use, v.Type())
			}
		}
	case *types.Interface:
		for method := range t.Methods() {
			a.visit(use+"."+method.Name(), method.Type())
		}
	case *types.Map:
		a.visit(use, t.Key())
		a.visit(use, t.Elem())
	case interface{ Elem() types.Type }: // of a pointer, slice, array or channel
		a.visit(use, t.Elem())
	}
}

// visitNamed looks into a type of the package itself only: others answer for their own.
func (a *api) visitNamed(use string, t *types.Named) {
	for argument := range t.TypeArgs().Types() {
		a.visit(use, argument)
	}
	name := t.Obj()
	home := name.Pkg()
	switch {
	case home == nil: // error
	case strings.Contains(home.Path()+"/", "/internal/") || !name.Exported():
		a.hidden = append(a.hidden, fmt.Sprintf("%s needs %s", use, t))
	case home.Path() == a.home.Path():
		a.met[t] = true
		for method := range t.Methods() {
			if method.Exported() {
				a.visit(name.Name()+"."+method.Name(), method.Type())
			}
		}
		a.visit(name.Name(), t.Underlying())
	}
}
