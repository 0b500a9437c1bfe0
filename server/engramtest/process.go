package engramtest

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// commandPackage is what a child process runs.
const commandPackage = "github.com/engramdb/engram/server/cmd/engram"

// binary is the command, built for the tests that use it.
type binary struct {
	mu    sync.Mutex // guards the fields below; held while building
	users int
	dir   string // empty: it is not built
	path  string
}

// shared is the process's: a link takes longer than most tests.
var shared binary

// Binary returns the path of the command engram, built from the sources that the
// test was built from. Tests that run at one time share it, and with [Main] all
// of a package; it is removed with the last of them.
func Binary(tb testing.TB) string {
	tb.Helper()
	path, err := shared.take()
	tb.Cleanup(func() { require.NoError(tb, shared.release()) })
	require.NoError(tb, err)
	return path
}

// Main runs the tests of a package, which then build the command once for all of
// them. It is for their TestMain, and returns the exit code:
//
//	func TestMain(m *testing.M) { os.Exit(engramtest.Main(m)) }
func Main(m *testing.M) int {
	shared.hold()
	code := m.Run()
	if err := shared.release(); err != nil {
		panic(err)
	}
	return code
}

func (b *binary) hold() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.users++
}

func (b *binary) take() (string, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.users++
	if b.dir != "" {
		return b.path, nil
	}
	return b.path, b.buildLocked()
}

func (b *binary) buildLocked() error {
	dir, err := os.MkdirTemp("", "engramtest-")
	if err != nil {
		return err
	}
	b.path = filepath.Join(dir, "engram.exe") // the suffix is needed by Windows only
	output, err := exec.Command("go", "build", "-o", b.path, commandPackage).CombinedOutput()
	if err != nil {
		return errors.Join(fmt.Errorf("build %s: %w\n%s", commandPackage, err, output), os.RemoveAll(dir))
	}
	b.dir = dir
	return nil
}

func (b *binary) release() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.users--; b.users > 0 || b.dir == "" {
		return nil
	}
	dir := b.dir
	b.dir = ""
	return os.RemoveAll(dir)
}

// process is a server that is a child of the test.
type process struct {
	dir     string
	url     string
	rpc     string
	command *exec.Cmd
	ended   chan error
}

func startProcess(tb testing.TB, dir string, options Options) host {
	tb.Helper()
	args := append([]string{"serve", "--data", dir, "--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0"}, options.Args...)
	p := &process{dir: dir, command: exec.Command(Binary(tb), args...), ended: make(chan error, 1)}
	out, err := p.command.StdoutPipe()
	require.NoError(tb, err)
	var logged strings.Builder
	p.command.Stderr = &logged
	require.NoError(tb, p.command.Start())
	announced := bufio.NewReader(out)
	line, readErr := announced.ReadString('\n')
	go func() {
		_, copyErr := io.Copy(io.Discard, announced)
		p.ended <- errors.Join(p.command.Wait(), copyErr)
	}()
	_, addresses, _ := strings.Cut(strings.TrimSpace(line), " on ")
	var found bool
	p.url, p.rpc, found = strings.Cut(addresses, " and grpc://")
	if readErr != nil || !found {
		killErr := errors.Join(p.command.Process.Kill(), <-p.ended)
		require.Fail(tb, "the server does not start", "%v %v\n%s%s", readErr, killErr, line, logged.String())
	}
	return p
}

func (p *process) addresses() (url, rpc string) { return p.url, p.rpc }

func (p *process) stop() error {
	if err := p.command.Process.Signal(os.Interrupt); err != nil {
		// Windows has no such signal.
		if err := p.command.Process.Kill(); err != nil {
			return err
		}
		var killed *exec.ExitError
		if err := <-p.ended; !errors.As(err, &killed) {
			return err
		}
		return nil
	}
	return <-p.ended
}

// crash kills the process: SIGKILL, which it cannot take notice of.
func (p *process) crash(tb testing.TB) string {
	tb.Helper()
	require.NoError(tb, p.command.Process.Kill())
	var exit *exec.ExitError
	require.ErrorAs(tb, <-p.ended, &exit)
	return p.dir
}
