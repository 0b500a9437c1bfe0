// Package console is the web page by which people look at a server: spaces, what
// they hold, recalls with their reasons, events, forgetting. It is files, embedded
// as they are written: there is no build step, and nothing is loaded from anywhere
// else.
//
// The page holds no data and no authority. What it shows it asks of the HTTP API in
// the browser, with the key that the user types in; so its files are public, and
// every decision stays with the API.
//
// Text of tenants is shown to operators here, so it must never become markup. The
// scripts make nodes and no HTML, and the policy that comes with each file refuses
// the rest: no script or style but these files, no HTML from strings (trusted
// types), no request to another server, no frame around the page.
package console

import (
	"crypto/sha256"
	"embed"
	"fmt"
	"io/fs"
	"net/http"
	"path"
)

// Page is the name of the file that is the page itself.
const Page = "index.html"

// policy is the Content-Security-Policy of every file.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; " +
	"frame-ancestors 'none'; base-uri 'none'; form-action 'none'; " +
	"require-trusted-types-for 'script'; trusted-types 'none'"

//go:embed assets
var assets embed.FS

// File is one file of the console.
type File struct {
	Type string // media type
	Tag  string // of its bytes, quoted as an ETag is
	Body []byte // not to be changed
}

// Files returns the files by name. It hashes them: callers keep the map.
func Files() map[string]File {
	// The system's table of types is not asked: it may lack one, and a browser
	// takes no other type for a module.
	types := map[string]string{
		".html": "text/html; charset=utf-8",
		".css":  "text/css; charset=utf-8",
		".js":   "text/javascript; charset=utf-8",
		".svg":  "image/svg+xml",
	}
	files := map[string]File{}
	err := fs.WalkDir(assets, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		body, err := assets.ReadFile(name)
		sum := sha256.Sum256(body)
		files[entry.Name()] = File{Type: types[path.Ext(name)], Tag: fmt.Sprintf(`"%x"`, sum[:16]), Body: body}
		return err
	})
	if err != nil {
		panic(fmt.Sprintf("console: files that are part of the program cannot be read: %v", err))
	}
	return files
}

// SetHeader sets what the answer with the file says beside its type and length. A
// browser keeps the file, and asks each time whether it is still that one: so a
// page and its scripts are of one version, also after an upgrade.
func (f File) SetHeader(header http.Header) {
	header.Set("Content-Security-Policy", policy)
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("Referrer-Policy", "no-referrer")
	header.Set("Cross-Origin-Opener-Policy", "same-origin")
	header.Set("Cross-Origin-Resource-Policy", "same-origin")
	header.Set("Cache-Control", "no-cache")
	header.Set("ETag", f.Tag)
}
