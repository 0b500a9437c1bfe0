//go:build !cgo || !sqlite_fts5

package peers

import (
	"database/sql"
	"testing"
)

// SQLite is C, and its full-text search is compiled in on demand: it is compared
// where a C compiler is, with -tags sqlite_fts5.
const haveFTS = false

func fillFTS(*testing.B, []string) *sql.DB { return nil }

func askFTS(*testing.B, *sql.DB, []string) engine { return engine{} }
