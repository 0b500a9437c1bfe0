//go:build cgo && sqlite_fts5

package peers

import (
	"database/sql"
	"path/filepath"
	"strings"
	"testing"

	_ "github.com/mattn/go-sqlite3"
	"github.com/stretchr/testify/require"
)

const haveFTS = true

func fillFTS(b *testing.B, contents []string) *sql.DB {
	b.Helper()
	db, err := sql.Open("sqlite3", filepath.Join(b.TempDir(), "fts.db")+"?_journal_mode=WAL&_synchronous=FULL")
	require.NoError(b, err)
	_, err = db.Exec(`CREATE VIRTUAL TABLE memories USING fts5(content)`)
	require.NoError(b, err)
	for from := 0; from < len(contents); from += 512 {
		tx, err := db.Begin()
		require.NoError(b, err)
		insert, err := tx.Prepare(`INSERT INTO memories(rowid, content) VALUES (?, ?)`)
		require.NoError(b, err)
		for i := from; i < min(from+512, len(contents)); i++ {
			_, err := insert.Exec(i, contents[i])
			require.NoError(b, err)
		}
		require.NoError(b, tx.Commit())
	}
	return db
}

func askFTS(b *testing.B, db *sql.DB, cues []string) engine {
	b.Helper()
	query, err := db.Prepare(`SELECT rowid, content FROM memories WHERE memories MATCH ? ORDER BY rank LIMIT 10`)
	require.NoError(b, err)
	return engine{"fts5", func(i int) {
		rows, err := query.Query(ftsQuery(cues[i]))
		require.NoError(b, err)
		for rows.Next() {
			var id int
			var content string
			require.NoError(b, rows.Scan(&id, &content))
		}
		require.NoError(b, rows.Close())
	}}
}

// ftsQuery asks for any of the words.
func ftsQuery(cue string) string { return strings.Join(strings.Fields(cue), " OR ") }
