//go:build unix

package main

import (
	"bufio"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/engramdb/engram"
	"github.com/engramdb/engram/server/engramtest"
)

// asProgram in the environment makes the test binary be the program.
const asProgram = "ENGRAM_TEST_AS_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		main()
		return
	}
	heedHangups() // nohup, which may have started the tests, has programs ignore them
	os.Exit(engramtest.Main(m))
}

// heedHangups undoes that SIGHUP is ignored, here and in processes that are started: to
// reset it would not.
func heedHangups() { signal.Notify(make(chan os.Signal, 1), syscall.SIGHUP) }

// program is serve as a process of its own.
type program struct {
	t     *testing.T
	url   string
	cmd   *exec.Cmd
	ended chan error // what Wait returned
}

func startProgram(t *testing.T, dir string) *program {
	t.Helper()
	cmd := exec.Command(os.Args[0], "serve", "--data", dir, "--http", "127.0.0.1:0", "--grpc", "off", "--drain-timeout", "1m")
	cmd.Env = append(os.Environ(), asProgram+"=1")
	out, printed, err := os.Pipe()
	require.NoError(t, err)
	cmd.Stdout = printed
	require.NoError(t, cmd.Start())
	p := &program{t: t, cmd: cmd, ended: make(chan error, 1)}
	joined := make(chan struct{})
	go func() {
		p.ended <- cmd.Wait()
		close(joined)
	}()
	t.Cleanup(func() {
		if err := cmd.Process.Kill(); err != nil {
			require.ErrorIs(t, err, os.ErrProcessDone)
		}
		<-joined
		require.NoError(t, out.Close())
	})
	require.NoError(t, printed.Close())
	p.url = announced(t, out)
	return p
}

// startRemembering starts the program and has it acknowledge a memory of space alpha.
func startRemembering(t *testing.T, dir string) *program {
	t.Helper()
	p := startProgram(t, dir)
	status, _ := post(t, p.url+"/v1/spaces", `{"id":"alpha"}`)
	require.Equal(t, 201, status)
	status, _ = post(t, p.url+"/v1/spaces/alpha/memories", `{"content":"acknowledged"}`)
	require.Equal(t, 201, status)
	return p
}

func (p *program) signal(signal os.Signal) {
	p.t.Helper()
	require.NoError(p.t, p.cmd.Process.Signal(signal))
}

// wait returns how the program ended.
func (p *program) wait() error {
	p.t.Helper()
	select {
	case err := <-p.ended:
		return err
	case <-time.After(time.Minute):
		require.FailNow(p.t, "the program did not end")
		return nil
	}
}

// hang leaves a request to the space unfinished: the first signal waits for it.
// The server's 100 Continue says that it has begun to read the body.
func (p *program) hang(space string) {
	p.t.Helper()
	connection, err := net.Dial("tcp", p.address())
	require.NoError(p.t, err)
	p.t.Cleanup(func() { require.NoError(p.t, connection.Close()) })
	_, err = io.WriteString(connection, "POST /v1/spaces/"+space+"/memories HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: 100\r\n\r\n")
	require.NoError(p.t, err)
	line, err := bufio.NewReader(connection).ReadString('\n')
	require.NoError(p.t, err)
	require.Equal(p.t, "HTTP/1.1 100 Continue\r\n", line)
}

func (p *program) address() string { return strings.TrimPrefix(p.url, "http://") }

func TestOneSignalEndsInGoodOrder(t *testing.T) {
	for _, signal := range []os.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP} {
		sh := newShell(t)
		p := startProgram(t, sh.dir)
		status, _ := post(t, p.url+"/v1/spaces", `{"id":"alpha"}`)
		require.Equal(t, 201, status)
		p.signal(signal)
		require.NoError(t, p.wait())
		require.Empty(t, sh.contents("alpha"))
	}
}

// TestHangupThatIsIgnoredStaysIgnored: a server that nohup started outlives its terminal.
func TestHangupThatIsIgnoredStaysIgnored(t *testing.T) {
	require.Contains(t, endingSignals(), syscall.SIGHUP)
	signal.Ignore(syscall.SIGHUP)
	defer heedHangups()
	require.NotContains(t, endingSignals(), syscall.SIGHUP)
}

// TestSecondSignalEndsAtOnce: a request that never ends holds the first signal
// up, not the second; what was acknowledged is there afterwards.
func TestSecondSignalEndsAtOnce(t *testing.T) {
	sh := newShell(t)
	p := startRemembering(t, sh.dir)
	p.hang("alpha")

	p.signal(syscall.SIGTERM)
	require.Eventually(t, func() bool {
		connection, err := net.Dial("tcp", p.address())
		return err != nil || connection.Close() != nil
	}, time.Minute, time.Millisecond, "the first signal closes the listener")
	p.signal(syscall.SIGTERM)
	var exit *exec.ExitError
	require.ErrorAs(t, p.wait(), &exit)
	require.Equal(t, syscall.SIGTERM, exit.Sys().(syscall.WaitStatus).Signal())
	require.Equal(t, engram.CheckRecoverable, sh.report(1).Verdict, "the log was not settled")
	require.Equal(t, []string{"acknowledged"}, sh.contents("alpha"))
	require.Equal(t, engram.CheckClean, sh.report(0).Verdict)
}

// TestInfoAfterAKill: what was acknowledged is in what a space is said to be.
func TestInfoAfterAKill(t *testing.T) {
	sh := newShell(t)
	p := startRemembering(t, sh.dir)
	p.signal(syscall.SIGKILL)
	require.Error(t, p.wait())
	var info engram.SpaceInfo
	sh.run("space", "info", "alpha", "-o", "json").into(&info)
	require.Equal(t, int64(1), info.Memories)
	require.Equal(t, uint64(2), info.Seq)
}

// TestQuickSecondSignalIsNotLost sends both without waiting for the first one
// to show. They differ because the system may merge equal ones.
func TestQuickSecondSignalIsNotLost(t *testing.T) {
	for range 5 {
		sh := newShell(t)
		p := startProgram(t, sh.dir)
		status, _ := post(t, p.url+"/v1/spaces", `{"id":"alpha"}`)
		require.Equal(t, 201, status)
		p.hang("alpha")
		p.signal(syscall.SIGTERM)
		p.signal(syscall.SIGINT)
		require.Error(t, p.wait())
	}
}

// TestVerifyCleansUpWhenInterrupted: a signal ends a verification that would last,
// and its spaces go with it.
func TestVerifyCleansUpWhenInterrupted(t *testing.T) {
	server := engramtest.Start(t, engramtest.Options{Spaces: []engram.SpaceID{"alpha"}})
	report := filepath.Join(t.TempDir(), "report")
	cmd := exec.Command(os.Args[0], "verify", "--addr", server.URL(), "--duration", "1h", "--report", report)
	cmd.Env = append(os.Environ(), asProgram+"=1")
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	lines := bufio.NewReader(out)
	line, err := lines.ReadString('\n')
	require.NoError(t, err)
	require.Contains(t, line, "ok    http/")
	ids, err := server.Spaces(t.Context())
	require.NoError(t, err)
	require.Greater(t, len(ids), 1)
	require.NoError(t, cmd.Process.Signal(syscall.SIGINT))
	_, err = io.Copy(io.Discard, lines)
	require.NoError(t, err)
	var exit *exec.ExitError
	require.ErrorAs(t, cmd.Wait(), &exit)
	require.Equal(t, exitFailed, exit.ExitCode())
	ids, err = server.Spaces(t.Context())
	require.NoError(t, err)
	require.Equal(t, []engram.SpaceID{"alpha"}, ids)
	text, err := os.ReadFile(filepath.Join(report, "report.json"))
	require.NoError(t, err)
	require.Contains(t, string(text), `"verdict": "incomplete"`)
}
