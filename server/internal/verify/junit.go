package verify

import (
	"encoding/xml"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
)

// junitSuites is the root of a report as JUnit's successors read it.
type junitSuites struct {
	XMLName  xml.Name     `xml:"testsuites"`
	Name     string       `xml:"name,attr"`
	Tests    int          `xml:"tests,attr"`
	Failures int          `xml:"failures,attr"`
	Errors   int          `xml:"errors,attr"`
	Skipped  int          `xml:"skipped,attr"`
	Time     string       `xml:"time,attr"`
	Suites   []junitSuite `xml:"testsuite"`
}

type junitSuite struct {
	Name     string      `xml:"name,attr"`
	Tests    int         `xml:"tests,attr"`
	Failures int         `xml:"failures,attr"`
	Errors   int         `xml:"errors,attr"`
	Skipped  int         `xml:"skipped,attr"`
	Time     string      `xml:"time,attr"`
	Cases    []junitCase `xml:"testcase"`
}

type junitCase struct {
	Name    string        `xml:"name,attr"`
	Class   string        `xml:"classname,attr"`
	Time    string        `xml:"time,attr"`
	Failure *junitMessage `xml:"failure"`
	Error   *junitMessage `xml:"error"`
	Skipped *junitMessage `xml:"skipped"`
	Out     string        `xml:"system-out,omitempty"`
}

type junitMessage struct {
	Message string `xml:"message,attr"`
	Text    string `xml:",chardata"`
}

// WriteJUnit writes the report as JUnit XML: a suite for each transport and area,
// a test case for each assertion. A run that is incomplete has one case more,
// which has an error.
func (r Report) WriteJUnit(out io.Writer) error {
	all := junitSuites{Name: "engram verify", Time: seconds(r.Milliseconds)}
	took := map[string]float64{}
	for _, result := range r.Assertions {
		name := path.Dir(result.Name)
		i := slices.IndexFunc(all.Suites, func(s junitSuite) bool { return s.Name == name })
		if i < 0 {
			i = len(all.Suites)
			all.Suites = append(all.Suites, junitSuite{Name: name})
		}
		suite := &all.Suites[i]
		took[name] += result.Milliseconds
		suite.Time = seconds(took[name])
		suite.add(caseOf(result))
	}
	if r.Error != "" {
		suite := junitSuite{Name: "run", Time: seconds(0)}
		suite.add(junitCase{Name: "complete", Class: "run", Time: seconds(0), Error: &junitMessage{Message: r.Error}})
		all.Suites = append(all.Suites, suite)
	}
	for _, suite := range all.Suites {
		all.Tests += suite.Tests
		all.Failures += suite.Failures
		all.Errors += suite.Errors
		all.Skipped += suite.Skipped
	}
	if _, err := io.WriteString(out, xml.Header); err != nil {
		return err
	}
	encoder := xml.NewEncoder(out)
	encoder.Indent("", "  ")
	if err := encoder.Encode(all); err != nil {
		return err
	}
	_, err := io.WriteString(out, "\n")
	return err
}

func (s *junitSuite) add(c junitCase) {
	s.Tests++
	switch {
	case c.Failure != nil:
		s.Failures++
	case c.Error != nil:
		s.Errors++
	case c.Skipped != nil:
		s.Skipped++
	}
	s.Cases = append(s.Cases, c)
}

func caseOf(result Result) junitCase {
	c := junitCase{
		Name: path.Base(result.Name), Class: strings.ReplaceAll(path.Dir(result.Name), "/", "."), Time: seconds(result.Milliseconds),
		Out: fmt.Sprintf("%s\n%d comparisons\n%s", result.Claim, result.Count, result.Reproduce),
	}
	switch result.Verdict {
	case Failed:
		c.Failure = &junitMessage{
			Message: result.Claim,
			Text:    strings.Join(result.Failures, "\n") + "\n" + result.Reproduce,
		}
	case Skipped:
		c.Skipped = &junitMessage{Message: result.Reason}
	case Warned:
		c.Out += "\nwarning: " + result.Reason
	}
	return c
}

func seconds(milliseconds float64) string { return fmt.Sprintf("%.3f", milliseconds/1000) }
