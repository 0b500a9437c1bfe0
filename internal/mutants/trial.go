package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

// form is a length at which the tests can be run.
type form struct {
	name    string
	flags   []string      // of the test binary
	env     []string      // what scales the tests up
	timeout time.Duration // more than the tests of any mutant take, and what one that makes them hang costs
}

// forms are the lengths, the shortest first. Most mutants die in the short form;
// what its sample does not meet, a longer one does.
func forms() []form {
	pairs := []string{"ENGRAM_ISOLATION=leaks"}
	return []form{
		{name: "short", flags: []string{"-test.short"}, env: pairs, timeout: 5 * time.Minute},
		{name: "ordinary", env: pairs, timeout: 10 * time.Minute},
		{
			name: "full", timeout: 30 * time.Minute,
			env: []string{"ENGRAM_FAULTS=1", "ENGRAM_DAMAGE=full", "ENGRAM_SCHEDULES=full", "ENGRAM_ISOLATION=full"},
		},
	}
}

// shownBytes are shown of the output of tests that fail without a mutant, the
// last ones: they stop at the first failure.
const shownBytes = 4096

// trial tries mutants.
type trial struct {
	root      string // of the module
	temporary string // directory
	parallel  int
}

// outcome is what became of a mutant.
type outcome struct {
	mutant
	killer string // the first test that noticed; empty: none did
	how    string // it noticed, where it did not just fail in the short form
	took   time.Duration
	err    error // why it could not be tried
}

func (o outcome) line() string {
	if o.layer != "" {
		return fmt.Sprintf("%s (%s): %s: %s, %.1f s", o.name, o.layer, o.what, o.verdict(), o.took.Seconds())
	}
	return fmt.Sprintf("%s: %s: %s, %.1f s", o.name, o.what, o.verdict(), o.took.Seconds())
}

// row is the outcome as a row of the table in docs/durability.md.
func (o outcome) row() string {
	if o.killer == "" {
		return o.line()
	}
	return fmt.Sprintf("| %s | %s | `%s` |", o.name, o.what, o.killer)
}

func (o outcome) verdict() string {
	switch {
	case o.err != nil:
		return "NOT TRIED: " + o.err.Error()
	case o.killer == "":
		return "SURVIVED " + o.tests
	}
	return "killed by " + o.killer + o.how
}

// outcomes tries the mutants, some at a time, and yields what became of each in
// their order.
func (t trial) outcomes(ctx context.Context, mutants []mutant) iter.Seq[outcome] {
	results := make([]chan outcome, len(mutants))
	for i := range results {
		results[i] = make(chan outcome, 1)
	}
	slots := make(chan struct{}, t.parallel)
	go func() {
		for i, m := range mutants {
			slots <- struct{}{}
			go func() {
				defer func() { <-slots }()
				results[i] <- t.try(ctx, m)
			}()
		}
	}()
	return func(yield func(outcome) bool) {
		for _, result := range results {
			if !yield(<-result) {
				return
			}
		}
	}
}

// try compiles the tests with the mutant in place and runs them.
func (t trial) try(ctx context.Context, m mutant) outcome {
	began := time.Now()
	o := outcome{mutant: m}
	o.killer, o.how, o.err = t.kill(ctx, m)
	o.took = time.Since(began)
	return o
}

func (t trial) kill(ctx context.Context, m mutant) (killer, how string, err error) {
	dir, err := os.MkdirTemp(t.temporary, "mutant")
	if err != nil {
		return "", "", err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	overlay, err := m.overlay(t.root, dir)
	if err != nil {
		return "", "", err
	}
	binary, err := t.compile(ctx, m.pkg, dir, "-overlay="+overlay)
	if err != nil {
		return "", "", err
	}
	for i, f := range forms() {
		output, failed := t.test(ctx, binary, m, f)
		if err := ctx.Err(); err != nil {
			return "", "", err
		}
		killer, how, err = judge(output, failed)
		if killer != "" && i > 0 {
			how += ", in its " + f.name + " form"
		}
		if killer != "" || err != nil {
			break
		}
	}
	return killer, how, err
}

// compile builds the tests of the package.
func (t trial) compile(ctx context.Context, pkg, dir string, flags ...string) (string, error) {
	binary, err := filepath.Abs(filepath.Join(dir, "mutant.test"))
	if err != nil {
		return "", err
	}
	// Compiling is most of the work, and goes faster without inlining.
	args := append([]string{"test", "-c", "-vet=off", "-gcflags=-l", "-o", binary}, flags...)
	cmd := exec.CommandContext(ctx, "go", append(args, "./"+pkg)...)
	cmd.Dir = t.root
	if output, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("does not compile: %w\n%s", err, output)
	}
	return binary, nil
}

// test runs m's tests, in the package's directory as go test does, up to the
// first that fails. What they leave behind goes beside the binary.
func (t trial) test(ctx context.Context, binary string, m mutant, f form) (output []byte, failed error) {
	// The binary's own limit names the test that hangs; this one is for a
	// process that does not even keep that.
	ctx, cancel := context.WithTimeout(ctx, f.timeout+f.timeout/2)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary, append([]string{
		"-test.v", "-test.failfast", "-test.count=1", "-test.timeout=" + f.timeout.String(), "-test.run=^(" + m.tests + ")$",
	}, f.flags...)...)
	cmd.Dir = filepath.Join(t.root, m.pkg)
	for _, variable := range os.Environ() {
		// What scales the tests is the form's.
		if !strings.HasPrefix(variable, "ENGRAM_") && !strings.HasPrefix(variable, "RAPID_") {
			cmd.Env = append(cmd.Env, variable)
		}
	}
	cmd.Env = append(cmd.Env, "TMPDIR="+filepath.Dir(binary), "RAPID_NOFAILFILE=1")
	cmd.Env = append(cmd.Env, f.env...)
	var all bytes.Buffer
	cmd.Stdout, cmd.Stderr = &all, &all
	cmd.WaitDelay = time.Second
	failed = cmd.Run()
	if err := ctx.Err(); failed != nil && err != nil {
		failed = err
	}
	return all.Bytes(), failed
}

var (
	failedTest  = regexp.MustCompile(`(?m)^--- FAIL: (\w+)`)
	passedTest  = regexp.MustCompile(`(?m)^--- PASS: (\w+)`)
	runningTest = regexp.MustCompile(`(?m)^=== RUN +(\w+)`)
	hangs       = regexp.MustCompile(`(?m)^panic: (test timed out|hangs)`)
	panics      = regexp.MustCompile(`(?m)^(panic:|fatal error:)`)
)

// judge says which test noticed, from the output of the tests. A process that
// ended before any test began says nothing about the mutant.
func judge(output []byte, failed error) (killer, how string, err error) {
	if failed == nil {
		if !passedTest.Match(output) {
			return "", "", errors.New("none of its tests ran")
		}
		return "", "", nil
	}
	running := runningTest.FindAllSubmatch(output, -1)
	if len(running) == 0 {
		return "", "", fmt.Errorf("its tests did not run: %w\n%s", failed, output)
	}
	killer = string(running[len(running)-1][1])
	if match := failedTest.FindSubmatch(output); match != nil {
		killer = string(match[1])
	}
	switch {
	case hangs.Match(output) || errors.Is(failed, context.DeadlineExceeded):
		how = ", which hangs"
	case panics.Match(output):
		how = ", which panics"
	}
	return killer, how, nil
}

// unmutated runs every test that is going to be used on the sources as they
// are, but for the full form. A mutant could otherwise be killed by a test that
// fails anyway.
func (t trial) unmutated(ctx context.Context, mutants []mutant) error {
	suites := make(map[string]mutant)
	for _, m := range mutants {
		if suite, found := suites[m.pkg]; found {
			m.tests = suite.tests + "|" + m.tests
		}
		suites[m.pkg] = m
	}
	for _, pkg := range slices.Sorted(maps.Keys(suites)) {
		binary, err := t.compile(ctx, pkg, t.temporary)
		if err != nil {
			return err
		}
		passed := make(map[string]bool)
		for _, f := range forms()[:2] {
			output, err := t.test(ctx, binary, suites[pkg], f)
			if err != nil {
				return fmt.Errorf("the tests fail without a mutant: %w\n%s", err, output[max(len(output)-shownBytes, 0):])
			}
			for _, match := range passedTest.FindAllSubmatch(output, -1) {
				passed[string(match[1])] = true
			}
		}
		for _, m := range mutants {
			if m.pkg == pkg && !m.hasTests(passed) {
				return fmt.Errorf("%s: no test %s has run", m.name, m.tests)
			}
		}
	}
	return nil
}

// hasTests reports whether any of those that have passed is a test of m.
func (m mutant) hasTests(passed map[string]bool) bool {
	tests := regexp.MustCompile("^(" + m.tests + ")$")
	for name := range passed {
		if tests.MatchString(name) {
			return true
		}
	}
	return false
}
