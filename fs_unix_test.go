//go:build unix

package engram

import (
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/engramdb/engram/internal/vfs"
)

// Opening a pipe waits for its other end, which nobody holds here: these calls
// would never return.
func TestFSRefusesPipes(t *testing.T) {
	dir, path := openTestDir(t)
	require.NoError(t, syscall.Mkfifo(filepath.Join(path, "pipe"), 0o600))
	for _, write := range []bool{false, true} {
		_, err := dir.Open("pipe", write)
		require.ErrorIs(t, err, vfs.ErrUnsafe)
	}
	for _, shared := range []bool{false, true} {
		_, _, err := dir.Lock("pipe", shared, "note")
		require.ErrorIs(t, err, vfs.ErrUnsafe)
	}
	_, err := dir.OpenDir("pipe")
	require.ErrorIs(t, err, vfs.ErrUnsafe)
	_, err = dir.Open("pipe/file", false)
	require.ErrorIs(t, err, vfs.ErrUnsafe)
	require.ErrorIs(t, dir.Sync("pipe"), vfs.ErrUnsafe)
}

// A pipe takes the place of what was looked at.
func TestFSRefusesSwappedPipes(t *testing.T) {
	path := t.TempDir()
	writeTestFile(t, filepath.Join(path, "a", "file"), "a")
	root, err := os.OpenRoot(path)
	require.NoError(t, err)
	defer func() { require.NoError(t, root.Close()) }()
	dirInfo, err := root.Lstat("a")
	require.NoError(t, err)
	fileInfo, err := root.Lstat("a/file")
	require.NoError(t, err)

	require.NoError(t, syscall.Mkfifo(filepath.Join(path, "pipe"), 0o600))
	for _, write := range []bool{false, true} {
		_, err = openFileAs(root, "pipe", write, fileInfo)
		require.ErrorIs(t, err, vfs.ErrUnsafe)
	}
	_, err = openDirAs(root, "pipe", dirInfo)
	require.ErrorIs(t, err, syscall.ENOTDIR)
}

// A data directory whose parent this process may not open can be used, but not
// made, because its name could not be made durable.
func TestFSOpenDirOfPrivateParent(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Skip("permissions do not hold for root")
	}
	parent := filepath.Join(t.TempDir(), "private")
	require.NoError(t, os.MkdirAll(filepath.Join(parent, "given"), 0o700))
	require.NoError(t, os.Chmod(parent, 0o300))
	t.Cleanup(func() { require.NoError(t, os.Chmod(parent, 0o700)) })

	dir, err := osFS{}.OpenDir(filepath.Join(parent, "given"), true)
	require.NoError(t, err)
	require.NoError(t, dir.Close())
	_, err = osFS{}.OpenDir(filepath.Join(parent, "made"), true)
	require.ErrorIs(t, err, fs.ErrPermission)
}

// A child process that is being started has a copy of every descriptor for a
// moment. The lock goes with its Closer all the same.
func TestFSLockGoesWithCopies(t *testing.T) {
	dir, _ := openTestDir(t)
	for _, shared := range []bool{false, true} {
		lock, _, err := dir.Lock(".lock", shared, "")
		require.NoError(t, err)
		var duplicate int
		require.NoError(t, withDescriptor(lock.(osLock).file, func(fd uintptr) (err error) {
			duplicate, err = syscall.Dup(int(fd))
			return err
		}))
		require.NoError(t, lock.Close())

		lock, _, err = dir.Lock(".lock", false, "")
		require.NoError(t, err)
		require.NoError(t, lock.Close())
		require.NoError(t, syscall.Close(duplicate))
	}
}
