package engram

import (
	"bufio"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/engramdb/engram/internal/vfs"
)

// openTestDir opens a new temporary directory through the seam.
func openTestDir(t *testing.T) (vfs.Dir, string) {
	t.Helper()
	path := t.TempDir()
	dir, err := osFS{}.OpenDir(path, false)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, dir.Close()) })
	return dir, path
}

func writeTestFile(t *testing.T, path, content string) {
	t.Helper()
	require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o700))
	require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
}

func readTestFile(t *testing.T, dir vfs.Dir, name string) string {
	t.Helper()
	file, err := dir.Open(name, false)
	require.NoError(t, err)
	size, err := file.Size()
	require.NoError(t, err)
	content := make([]byte, size)
	_, err = file.ReadAt(content, 0)
	require.NoError(t, err)
	require.NoError(t, file.Close())
	return string(content)
}

func TestFSOpenDirCreates(t *testing.T) {
	base := t.TempDir()
	path := filepath.Join(base, "a", "b", "c")

	_, err := osFS{}.OpenDir(path, false)
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.NoDirExists(t, filepath.Join(base, "a"))

	for range 3 { // missing, empty, in use
		dir, err := osFS{}.OpenDir(path+string(filepath.Separator), true)
		require.NoError(t, err)
		if file, err := dir.Create("file"); err == nil {
			require.NoError(t, file.Close())
		} else {
			require.ErrorIs(t, err, fs.ErrExist)
		}
		require.NoError(t, dir.Close())
		info, err := os.Stat(path)
		require.NoError(t, err)
		require.Equal(t, fs.ModeDir|dirMode, info.Mode())
	}

	t.Chdir(base)
	dir, err := osFS{}.OpenDir("relative", true)
	require.NoError(t, err)
	require.NoError(t, dir.Close())
	require.DirExists(t, filepath.Join(base, "relative"))

	_, err = osFS{}.OpenDir(filepath.Join(path, "file"), true)
	require.Error(t, err)
	_, err = osFS{}.OpenDir(filepath.Join(path, "file", "below"), true)
	require.Error(t, err)
	_, err = osFS{}.OpenDir("", true)
	require.ErrorIs(t, err, fs.ErrNotExist)
}

func TestFSFile(t *testing.T) {
	dir, path := openTestDir(t)
	require.NoError(t, dir.Mkdir("wal"))
	file, err := dir.Create("wal/1")
	require.NoError(t, err)

	_, err = file.WriteAt([]byte("remember"), 4)
	require.NoError(t, err)
	size, err := file.Size()
	require.NoError(t, err)
	require.EqualValues(t, 12, size)
	require.NoError(t, file.Truncate(8))
	require.NoError(t, file.Sync())
	buffer := make([]byte, 12)
	n, err := file.ReadAt(buffer, 0)
	require.ErrorIs(t, err, io.EOF)
	require.Equal(t, "\x00\x00\x00\x00reme", string(buffer[:n]))
	require.NoError(t, file.Close())

	info, err := os.Stat(filepath.Join(path, "wal", "1"))
	require.NoError(t, err)
	require.Equal(t, fileMode, info.Mode())
	info, err = os.Stat(filepath.Join(path, "wal"))
	require.NoError(t, err)
	require.Equal(t, fs.ModeDir|dirMode, info.Mode())

	_, err = dir.Create("wal/1")
	require.ErrorIs(t, err, fs.ErrExist)
	require.ErrorIs(t, dir.Mkdir("wal"), fs.ErrExist)
	_, err = dir.Open("wal/2", false)
	require.ErrorIs(t, err, fs.ErrNotExist)
	_, err = dir.Open("log/1", false)
	require.ErrorIs(t, err, fs.ErrNotExist)

	reader, err := dir.Open("wal/1", false)
	require.NoError(t, err)
	_, err = reader.WriteAt([]byte("x"), 0)
	require.Error(t, err, "opened for reading only")
	require.NoError(t, reader.Close())
	writer, err := dir.Open("wal/1", true)
	require.NoError(t, err)
	_, err = writer.WriteAt([]byte("x"), 0)
	require.NoError(t, err)
	require.NoError(t, writer.Close())
	require.Equal(t, "x\x00\x00\x00reme", readTestFile(t, dir, "wal/1"))
}

func TestFSClosed(t *testing.T) {
	dir, err := osFS{}.OpenDir(t.TempDir(), false)
	require.NoError(t, err)
	file, err := dir.Create("file")
	require.NoError(t, err)
	lock, _, err := dir.Lock(".lock", false, "")
	require.NoError(t, err)
	require.NoError(t, lock.Close())
	require.NoError(t, file.Close())
	require.NoError(t, dir.Close())

	require.ErrorIs(t, lock.Close(), fs.ErrClosed)
	require.ErrorIs(t, file.Sync(), fs.ErrClosed)
	require.ErrorIs(t, file.Truncate(0), fs.ErrClosed)
	require.ErrorIs(t, file.Close(), fs.ErrClosed)
	_, err = file.Size()
	require.ErrorIs(t, err, fs.ErrClosed)
	_, err = file.ReadAt(make([]byte, 1), 0)
	require.ErrorIs(t, err, fs.ErrClosed)
	_, err = file.WriteAt(make([]byte, 1), 0)
	require.ErrorIs(t, err, fs.ErrClosed)

	require.ErrorIs(t, dir.Sync("."), fs.ErrClosed)
	require.ErrorIs(t, dir.Mkdir("a"), fs.ErrClosed)
	require.ErrorIs(t, dir.Rename("file", "b"), fs.ErrClosed)
	require.ErrorIs(t, dir.Remove("file"), fs.ErrClosed)
	_, err = dir.OpenDir("a")
	require.ErrorIs(t, err, fs.ErrClosed)
	_, err = dir.Create("c")
	require.ErrorIs(t, err, fs.ErrClosed)
	_, err = dir.Open("file", false)
	require.ErrorIs(t, err, fs.ErrClosed)
	_, err = dir.ReadDir(".")
	require.ErrorIs(t, err, fs.ErrClosed)
	_, _, err = dir.Lock(".lock", false, "")
	require.ErrorIs(t, err, fs.ErrClosed)
}

func TestFSReadDirOrder(t *testing.T) {
	dir, path := openTestDir(t)
	for _, name := range []string{"b", "a-2", "B", "a", "a0", ".z"} {
		writeTestFile(t, filepath.Join(path, "below", name), "")
	}
	require.NoError(t, os.Mkdir(filepath.Join(path, "below", "c"), 0o700))

	entries, err := dir.ReadDir("below")
	require.NoError(t, err)
	var names []string
	for _, entry := range entries {
		names = append(names, entry.Name())
		require.Equal(t, entry.Name() == "c", entry.IsDir())
	}
	require.Equal(t, []string{".z", "B", "a", "a-2", "a0", "b", "c"}, names)

	entries, err = dir.ReadDir(".")
	require.NoError(t, err)
	require.Len(t, entries, 1)
	_, err = dir.ReadDir("missing")
	require.ErrorIs(t, err, fs.ErrNotExist)
	_, err = dir.ReadDir("below/a")
	require.ErrorIs(t, err, vfs.ErrUnsafe)
}

func TestFSRenameAndRemove(t *testing.T) {
	dir, path := openTestDir(t)
	writeTestFile(t, filepath.Join(path, "a", "new.tmp"), "new")
	writeTestFile(t, filepath.Join(path, "a", "file"), "old")
	opened, err := dir.OpenDir("a")
	require.NoError(t, err)
	defer func() { require.NoError(t, opened.Close()) }()

	require.NoError(t, dir.Rename("a/new.tmp", "a/file"))
	require.NoError(t, dir.Sync("a"))
	require.Equal(t, "new", readTestFile(t, dir, "a/file"))

	require.NoError(t, dir.Mkdir("b"))
	require.NoError(t, dir.Rename("a", "b/c"))
	require.NoError(t, dir.Sync("b"))
	require.NoError(t, dir.Sync("."))
	require.Equal(t, "new", readTestFile(t, opened, "file"), "an open directory stays the same one")

	require.ErrorIs(t, dir.Rename("missing", "b/d"), fs.ErrNotExist)
	require.ErrorIs(t, dir.Remove("missing"), fs.ErrNotExist)
	require.Error(t, dir.Remove("b/c"), "not empty")
	require.NoError(t, dir.Remove("b/c/file"))
	require.NoError(t, dir.Remove("b/c"))
	require.NoDirExists(t, filepath.Join(path, "b", "c"))
	require.ErrorIs(t, dir.Sync("b/c"), fs.ErrNotExist)
}

// everyCall makes each call of dir that takes a name.
func everyCall(dir vfs.Dir, name string) map[string]error {
	errs := map[string]error{
		"Mkdir":       dir.Mkdir(name),
		"Rename from": dir.Rename(name, "renamed"),
		"Rename to":   dir.Rename("file", name),
		"Sync":        dir.Sync(name),
		"Remove":      dir.Remove(name),
	}
	_, errs["OpenDir"] = dir.OpenDir(name)
	_, errs["Create"] = dir.Create(name)
	_, errs["Open"] = dir.Open(name, false)
	_, errs["Open for writing"] = dir.Open(name, true)
	_, errs["ReadDir"] = dir.ReadDir(name)
	_, _, errs["Lock"] = dir.Lock(name, false, "note")
	return errs
}

func TestFSNamesDoNotEscape(t *testing.T) {
	outer, path := openTestDir(t)
	writeTestFile(t, filepath.Join(path, "secret"), "secret")
	writeTestFile(t, filepath.Join(path, "inner", "file"), "file")
	dir, err := outer.OpenDir("inner")
	require.NoError(t, err)
	defer func() { require.NoError(t, dir.Close()) }()

	for _, name := range []string{
		"../secret", "../inner/file", "..", "a/../../secret", "a/../file", "./file", "file/", "",
		filepath.ToSlash(filepath.Join(path, "secret")),
	} {
		for call, err := range everyCall(dir, name) {
			require.ErrorIs(t, err, fs.ErrInvalid, "%s of %q", call, name)
		}
	}
	require.Equal(t, "secret", readTestFile(t, outer, "secret"))
	require.Equal(t, "file", readTestFile(t, dir, "file"))
}

func TestFSRefusesLinks(t *testing.T) {
	dir, path := openTestDir(t)
	outside := t.TempDir()
	writeTestFile(t, filepath.Join(outside, "file"), "outside")
	writeTestFile(t, filepath.Join(path, "a", "file"), "a")
	for name, target := range map[string]string{
		"dir-inside": "a", "dir-outside": outside,
		"file-inside": filepath.Join("a", "file"), "file-outside": filepath.Join(outside, "file"), "nowhere": "missing",
	} {
		require.NoError(t, os.Symlink(target, filepath.Join(path, name)))
	}

	for _, name := range []string{"dir-inside", "dir-outside", "file-inside", "nowhere"} {
		_, err := dir.OpenDir(name)
		require.ErrorIs(t, err, vfs.ErrUnsafe, name)
		_, err = dir.ReadDir(name)
		require.ErrorIs(t, err, vfs.ErrUnsafe, name)
		require.ErrorIs(t, dir.Sync(name), vfs.ErrUnsafe, name)
		// On the way to something else it is refused too.
		for call, err := range everyCall(dir, name+"/file") {
			if call != "Rename to" {
				require.ErrorIs(t, err, vfs.ErrUnsafe, "%s below %s", call, name)
			}
		}
		require.ErrorIs(t, dir.Rename("a/file", name+"/other"), vfs.ErrUnsafe)
	}
	for _, name := range []string{"file-inside", "file-outside", "dir-inside", "nowhere"} {
		for _, write := range []bool{false, true} {
			_, err := dir.Open(name, write)
			require.ErrorIs(t, err, vfs.ErrUnsafe, name)
		}
		_, _, err := dir.Lock(name, false, "note")
		require.ErrorIs(t, err, vfs.ErrUnsafe, name)
		_, err = dir.Create(name)
		require.ErrorIs(t, err, fs.ErrExist, name)
	}
	require.NoFileExists(t, filepath.Join(path, "missing"))
	require.Equal(t, "a", readTestFile(t, dir, "a/file"))

	// Removing a link removes the link.
	require.NoError(t, dir.Remove("file-inside"))
	require.Equal(t, "a", readTestFile(t, dir, "a/file"))
}

func TestFSRefusesSecondNames(t *testing.T) {
	dir, path := openTestDir(t)
	outside := filepath.Join(t.TempDir(), "file")
	writeTestFile(t, outside, "outside")
	require.NoError(t, os.Link(outside, filepath.Join(path, "linked")))
	for _, write := range []bool{false, true} {
		_, err := dir.Open("linked", write)
		require.ErrorIs(t, err, vfs.ErrUnsafe)
	}
	_, _, err := dir.Lock("linked", false, "note")
	require.ErrorIs(t, err, vfs.ErrUnsafe)

	require.NoError(t, os.Remove(outside))
	require.Equal(t, "outside", readTestFile(t, dir, "linked"))

	require.NoError(t, dir.Mkdir("a"))
	_, err = dir.Open("a", false)
	require.ErrorIs(t, err, vfs.ErrUnsafe, "a directory is no file")
	_, err = dir.OpenDir("linked")
	require.ErrorIs(t, err, vfs.ErrUnsafe, "a file is no directory")
}

// What was looked at is replaced before it is opened: by a link that the
// os.Root would follow, or by another of its kind.
func TestFSRefusesSwapped(t *testing.T) {
	path := t.TempDir()
	writeTestFile(t, filepath.Join(path, "a", "file"), "a")
	writeTestFile(t, filepath.Join(path, "b", "file"), "b")
	root, err := os.OpenRoot(path)
	require.NoError(t, err)
	defer func() { require.NoError(t, root.Close()) }()
	dirInfo, err := root.Lstat("a")
	require.NoError(t, err)
	fileInfo, err := root.Lstat("a/file")
	require.NoError(t, err)
	requireOpens := func() {
		dir, err := openDirAs(root, "a", dirInfo)
		require.NoError(t, err)
		require.NoError(t, dir.Close())
		file, err := openFileAs(root, "a/file", false, fileInfo)
		require.NoError(t, err)
		require.NoError(t, file.Close())
	}
	requireRefuses := func() {
		_, err := openDirAs(root, "a", dirInfo)
		require.ErrorIs(t, err, vfs.ErrUnsafe)
		_, err = openFileAs(root, "a/file", true, fileInfo)
		require.ErrorIs(t, err, vfs.ErrUnsafe)
	}
	requireOpens()

	require.NoError(t, root.Rename("a", "kept"))
	require.NoError(t, root.Symlink("b", "a"))
	requireRefuses()
	require.NoError(t, root.Remove("a"))
	require.NoError(t, root.Rename("b", "a"))
	requireRefuses()
	require.NoError(t, root.Rename("a", "b"))
	require.NoError(t, root.Rename("kept", "a"))
	requireOpens()
}

func TestFSLock(t *testing.T) {
	dir, path := openTestDir(t)
	_, _, err := dir.Lock(".lock", true, "reader")
	require.ErrorIs(t, err, fs.ErrNotExist, "a reader makes nothing")

	writeTestFile(t, filepath.Join(path, ".lock"), "a much longer note of a former holder")
	writer, note, err := dir.Lock(".lock", false, "writer\n")
	require.NoError(t, err)
	require.Empty(t, note)
	for _, shared := range []bool{false, true} {
		_, note, err = dir.Lock(".lock", shared, "second")
		require.ErrorIs(t, err, vfs.ErrLocked)
		require.Equal(t, "writer", note)
	}
	require.NoError(t, writer.Close())

	first, note, err := dir.Lock(".lock", true, "reader")
	require.NoError(t, err)
	require.Empty(t, note)
	second, _, err := dir.Lock(".lock", true, "reader")
	require.NoError(t, err)
	for range 2 { // looking for the holder leaves nothing behind
		_, note, err = dir.Lock(".lock", false, "writer")
		require.ErrorIs(t, err, vfs.ErrLocked)
		require.Empty(t, note, "the file still names the former writer, who is not in the way")
	}
	require.NoError(t, first.Close())
	_, _, err = dir.Lock(".lock", false, "writer")
	require.ErrorIs(t, err, vfs.ErrLocked)
	require.NoError(t, second.Close())
	require.Equal(t, "writer\n", readTestFile(t, dir, ".lock"))

	writer, _, err = dir.Lock(".lock", false, "w2")
	require.NoError(t, err)
	require.Equal(t, "w2", readTestFile(t, dir, ".lock"))
	require.NoError(t, writer.Close())
}

// lockChildDir tells the test binary that it is the child of TestFSLockOfProcess.
const lockChildDir = "ENGRAM_TEST_LOCK_DIR"

func TestFSLockOfProcess(t *testing.T) {
	if path := os.Getenv(lockChildDir); path != "" {
		holdLock(t, path)
		return
	}
	dir, path := openTestDir(t)
	child := exec.Command(os.Args[0], "-test.run=^TestFSLockOfProcess$")
	child.Env = append(os.Environ(), lockChildDir+"="+path)
	_, err := child.StdinPipe() // ends with this process, and the child with it
	require.NoError(t, err)
	stdout, err := child.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, child.Start())
	line, err := bufio.NewReader(stdout).ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "locked\n", line)

	for _, shared := range []bool{false, true} {
		_, note, err := dir.Lock(".lock", shared, "parent")
		require.ErrorIs(t, err, vfs.ErrLocked)
		require.Equal(t, strconv.Itoa(child.Process.Pid), note)
	}

	require.NoError(t, child.Process.Kill())
	require.Error(t, child.Wait(), "it was killed")
	lock, _, err := dir.Lock(".lock", false, "parent")
	require.NoError(t, err, "a killed holder holds nothing")
	require.NoError(t, lock.Close())
}

// holdLock is the child: it holds the lock until its standard input ends.
func holdLock(t *testing.T, path string) {
	dir, err := osFS{}.OpenDir(path, false)
	require.NoError(t, err)
	_, _, err = dir.Lock(".lock", false, strconv.Itoa(os.Getpid())+"\n")
	require.NoError(t, err)
	_, err = os.Stdout.WriteString("locked\n")
	require.NoError(t, err)
	_, err = io.Copy(io.Discard, os.Stdin)
	require.NoError(t, err)
}

// What fails in a file names the file, but not the directory in which it was opened:
// that of a space is renamed when it is created, at the latest.
func TestFSErrorsNameNoFormerDirectory(t *testing.T) {
	dir, _ := openTestDir(t)
	require.NoError(t, dir.Mkdir("before"))
	file, err := dir.Create("before/file")
	require.NoError(t, err)
	require.NoError(t, dir.Rename("before", "after"))
	require.NoError(t, file.Close())

	var at *fs.PathError
	_, err = file.WriteAt([]byte{1}, 0)
	require.ErrorIs(t, err, fs.ErrClosed)
	require.ErrorAs(t, err, &at)
	require.Equal(t, "file", at.Path)
	_, err = file.ReadAt(make([]byte, 1), 0)
	require.ErrorAs(t, err, &at)
	require.Equal(t, "file", at.Path)
	require.ErrorAs(t, file.Truncate(0), &at)
	require.Equal(t, "file", at.Path)
}
