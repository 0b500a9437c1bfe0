package verify

import (
	"encoding/json"
	"fmt"
	"io"
	"runtime"
	"runtime/debug"
	"slices"
	"time"

	"github.com/engramdb/engram"
)

// ReportVersion is the version of the report's schema,
// docs/verify-report.schema.json. Fields may be added without a new one.
const ReportVersion = 1

// Verdict is what came of an assertion, or of a run.
type Verdict string

// Verdicts. A run is passed, failed or incomplete.
const (
	Passed     Verdict = "passed"
	Failed     Verdict = "failed"
	Warned     Verdict = "warned"     // it holds, and something should be looked at
	Skipped    Verdict = "skipped"    // it was not tried; the reason says why
	Incomplete Verdict = "incomplete" // not every assertion was tried that should have been
)

// Report is what came of a run.
type Report struct {
	Version      int              `json:"version"`
	Verdict      Verdict          `json:"verdict"`
	Error        string           `json:"error,omitempty"` // why the run is incomplete
	Build        Build            `json:"build"`
	Target       Target           `json:"target"`
	Started      time.Time        `json:"started"`
	Milliseconds float64          `json:"duration_ms"`
	Seed         uint64           `json:"seed"`
	Spaces       int              `json:"spaces"`
	Rounds       int              `json:"rounds"`
	Totals       Totals           `json:"totals"`
	Assertions   []Result         `json:"assertions"`
	LeftBehind   []engram.SpaceID `json:"left_behind"` // spaces of the run that could not be deleted
}

// Build says what this program was built from.
type Build struct {
	Version  string `json:"version"`
	Revision string `json:"revision,omitempty"`
	Modified bool   `json:"modified,omitempty"` // the sources were not those of the revision
	Go       string `json:"go"`
	OS       string `json:"os"`
	Arch     string `json:"arch"`
}

// Target says what was verified.
type Target struct {
	Kind     string `json:"kind"` // embedded or server
	HTTP     string `json:"http,omitempty"`
	GRPC     string `json:"grpc,omitempty"`
	MCP      string `json:"mcp,omitempty"`
	Keys     int    `json:"keys"`
	Restarts bool   `json:"restarts"` // it was allowed to restart it
}

// Totals count the assertions by verdict, and all their comparisons.
type Totals struct {
	Passed      int `json:"passed"`
	Failed      int `json:"failed"`
	Warned      int `json:"warned"`
	Skipped     int `json:"skipped"`
	Comparisons int `json:"comparisons"`
}

// Result is what came of one assertion.
type Result struct {
	Name         string             `json:"name"` // transport/area/what
	Transport    string             `json:"transport"`
	Claim        string             `json:"claim"` // what holds where it passes
	Verdict      Verdict            `json:"verdict"`
	Count        int                `json:"count"` // of comparisons
	Milliseconds float64            `json:"duration_ms"`
	Reproduce    string             `json:"reproduce"`          // the command line that tries it again
	Failures     []string           `json:"failures"`           // the first of them
	Failed       int                `json:"failed"`             // how many there are
	Reason       string             `json:"reason,omitempty"`   // of a warning, or why it was not tried
	Measured     map[string]float64 `json:"measured,omitempty"` // figures, by name with unit
}

func newReport(config Config) Report {
	report := Report{
		Version: ReportVersion, Build: ThisBuild(), Started: time.Now().UTC(), Seed: config.Seed, Spaces: config.Spaces,
		Target: Target{
			Kind: "server", HTTP: config.Addr, GRPC: config.GRPCAddr, MCP: config.MCPAddr, Keys: len(config.Keys), Restarts: config.Restart != nil,
		},
		Assertions: []Result{}, LeftBehind: []engram.SpaceID{},
	}
	if config.Dir != "" {
		report.Target.Kind, report.Target.Restarts = "embedded", true
	}
	return report
}

// ThisBuild returns what the running program knows of its build.
func ThisBuild() Build {
	build := Build{Version: "unknown", Go: runtime.Version(), OS: runtime.GOOS, Arch: runtime.GOARCH}
	info, known := debug.ReadBuildInfo()
	if !known {
		return build
	}
	if info.Main.Version != "" {
		build.Version = info.Main.Version
	}
	for _, setting := range info.Settings {
		switch setting.Key {
		case "vcs.revision":
			build.Revision = setting.Value
		case "vcs.modified":
			build.Modified = setting.Value == "true"
		}
	}
	return build
}

// String returns the build as one line.
func (b Build) String() string {
	line := b.Version
	if b.Revision != "" {
		line += " of " + b.Revision
	}
	if b.Modified {
		line += ", modified"
	}
	return fmt.Sprintf("%s, %s %s/%s", line, b.Go, b.OS, b.Arch)
}

// into completes a result with what came of the assertion.
func (c *check) into(result *Result) {
	c.mu.Lock()
	defer c.mu.Unlock()
	result.Count, result.Failed, result.Measured = c.count, c.failed, c.measured
	result.Failures = append([]string{}, c.failures...)
	switch {
	case c.failed > 0:
		result.Verdict = Failed
	case c.warning != "":
		result.Verdict, result.Reason = Warned, c.warning
	default:
		result.Verdict = Passed
	}
}

// intoShort completes a result of an assertion that did not come to its end, for a
// reason. It has failed where a comparison had, and else was not tried.
func (c *check) intoShort(result *Result, reason string) {
	c.mu.Lock()
	failed := c.failed > 0
	c.mu.Unlock()
	if failed {
		c.into(result)
		return
	}
	result.Verdict, result.Reason = Skipped, reason
}

// add adds a result to the report, to that of an earlier round if there is one,
// and returns it as it came.
func (r *Report) add(result Result) Result {
	i := slices.IndexFunc(r.Assertions, func(earlier Result) bool { return earlier.Name == result.Name })
	if i < 0 {
		r.Assertions = append(r.Assertions, result)
		return result
	}
	sum := &r.Assertions[i]
	if worse(result.Verdict, sum.Verdict) {
		sum.Verdict, sum.Reason, sum.Reproduce, sum.Measured = result.Verdict, result.Reason, result.Reproduce, result.Measured
	}
	sum.Count += result.Count
	sum.Milliseconds += result.Milliseconds
	sum.Failed += result.Failed
	sum.Failures = append(sum.Failures, result.Failures...)
	sum.Failures = sum.Failures[:min(len(sum.Failures), maxFailures)]
	return result
}

func worse(a, b Verdict) bool {
	order := []Verdict{Skipped, Passed, Warned, Failed}
	return slices.Index(order, a) > slices.Index(order, b)
}

// finish counts, and gives the verdict.
func (r *Report) finish(took time.Duration, err error) {
	r.Milliseconds = milliseconds(took)
	for _, result := range r.Assertions {
		r.Totals.Comparisons += result.Count
		switch result.Verdict {
		case Passed:
			r.Totals.Passed++
		case Failed:
			r.Totals.Failed++
		case Warned:
			r.Totals.Warned++
		case Skipped:
			r.Totals.Skipped++
		}
	}
	r.Verdict = Passed
	switch {
	case r.Totals.Failed > 0:
		r.Verdict = Failed
	case err != nil:
		r.Verdict = Incomplete
	}
	if err != nil {
		r.Error = err.Error()
	}
}

// WriteJSON writes the report as JSON.
func (r Report) WriteJSON(out io.Writer) error {
	encoder := json.NewEncoder(out)
	encoder.SetIndent("", "  ")
	return encoder.Encode(r)
}

// Summary is the report in a line.
func (r Report) Summary() string {
	return fmt.Sprintf("%s: %d passed, %d failed, %d warned, %d skipped, %d comparisons in %s (seed %d)",
		r.Verdict, r.Totals.Passed, r.Totals.Failed, r.Totals.Warned, r.Totals.Skipped, r.Totals.Comparisons,
		time.Duration(r.Milliseconds*float64(time.Millisecond)).Round(10*time.Millisecond), r.Seed)
}
