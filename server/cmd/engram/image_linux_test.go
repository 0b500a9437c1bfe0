package main

import (
	"bufio"
	"context"
	"debug/elf"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestImage makes by hand what deploy/Dockerfile makes: it runs the commands of the
// build, and starts the program with nothing around it, as the image's user, who
// may write to the data directory alone.
func TestImage(t *testing.T) {
	if testing.Short() {
		t.Skip("builds the command as a release")
	}
	all, comments := dockerfile(t)
	out, root := t.TempDir(), t.TempDir()
	build := exec.CommandContext(t.Context(), "sh", "-euc", strings.ReplaceAll(valuesOfAll(all, "RUN")[0], "/out/", out+"/"))
	build.Dir = "../.."
	build.Env = append(os.Environ(), strings.Fields(valuesOfAll(all, "ENV")[0])...)
	said, err := build.CombinedOutput()
	require.NoError(t, err, "%s", said)
	requireStatic(t, filepath.Join(out, "engram"))
	if os.Getuid() != 0 {
		t.Skip("only root may leave everything but the image behind")
	}

	user, err := strconv.Atoi(strings.Split(valuesOfAll(all, "USER")[0], ":")[0])
	require.NoError(t, err)
	require.NoError(t, os.Rename(filepath.Join(out, "engram"), filepath.Join(root, "engram")))
	data := filepath.Join(root, "data")
	require.NoError(t, os.Rename(filepath.Join(out, "data"), data))
	require.NoError(t, os.Chown(data, user, user))
	require.NoError(t, os.Chmod(root, 0o555))
	before := treeOf(t, root, data)

	environment := imageEnvironment(t, all)
	variables := []string{"ENGRAM_HTTP=0.0.0.0:0", "ENGRAM_GRPC=0.0.0.0:0", "ENGRAM_DATA=" + environment["ENGRAM_DATA"]}
	ctx, cancel := context.WithTimeout(t.Context(), docsTimeout)
	defer cancel()
	given := strings.Fields(comments[strings.LastIndex(comments, "engram --insecure"):])[1]
	command := exec.CommandContext(ctx, "/engram", "serve", given)
	command.Dir, command.Env = "/", variables
	command.SysProcAttr = &syscall.SysProcAttr{Chroot: root, Credential: &syscall.Credential{Uid: uint32(user), Gid: uint32(user)}}
	var logged strings.Builder
	command.Stderr = &logged
	printed, err := command.StdoutPipe()
	require.NoError(t, err)
	if err := command.Start(); os.IsPermission(err) {
		t.Skipf("this machine lets nobody change the root: %v", err)
	} else {
		require.NoError(t, err)
	}
	line, err := bufio.NewReader(printed).ReadString('\n')
	require.NoError(t, err, logged.String())
	port := regexp.MustCompile(`http://\S+:(\d+)`).FindStringSubmatch(line)
	require.NotNil(t, port, line)
	url := "http://127.0.0.1:" + port[1]
	status, _ := post(t, url+"/v1/spaces", `{"id":"alpha"}`)
	require.Equal(t, http.StatusCreated, status)
	status, _ = post(t, url+"/v1/spaces/alpha/memories", `{"content":"Anna drinks green tea"}`)
	require.Equal(t, http.StatusCreated, status)
	exported, err := http.Get(url + "/v1/spaces/alpha/export")
	require.NoError(t, err)
	imported, err := http.Post(url+"/v1/spaces/beta/import", "application/jsonl", exported.Body)
	require.NoError(t, err)
	require.Equal(t, http.StatusCreated, imported.StatusCode)
	require.NoError(t, exported.Body.Close())
	require.NoError(t, imported.Body.Close())
	require.NoError(t, command.Process.Signal(syscall.SIGTERM))
	require.NoError(t, command.Wait(), logged.String())
	require.Equal(t, before, treeOf(t, root, data), "it has written outside of the volume")
	sh := newShell(t)
	sh.dir, sh.args = data, []string{"--data", data}
	require.Equal(t, []string{"Anna drinks green tea"}, sh.contents("beta"))
}

// treeOf returns the paths below root, without what is in skipped.
func treeOf(t *testing.T, root, skipped string) (paths []string) {
	t.Helper()
	require.NoError(t, filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
		paths = append(paths, path)
		if err == nil && path == skipped {
			return fs.SkipDir
		}
		return err
	}))
	return paths
}

// requireStatic requires that a program needs no loader and no library.
func requireStatic(t *testing.T, program string) {
	t.Helper()
	file, err := elf.Open(program)
	require.NoError(t, err)
	defer func() { require.NoError(t, file.Close()) }()
	libraries, err := file.ImportedLibraries()
	require.NoError(t, err)
	require.Empty(t, libraries)
	for _, segment := range file.Progs {
		require.NotEqual(t, elf.PT_INTERP, segment.Type, "it has a loader")
	}
}
