package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// mutant is one bug.
type mutant struct {
	name  string
	what  string // it does wrong
	edits []edit
	tests string // regular expression of the whole names of the tests that should notice

	pkg   string // directory of those tests; empty: the module's root
	layer string // at which it shows, where the list has several
}

// edit replaces a text that stands exactly once in a file of the module.
type edit struct {
	file string
	find string
	with string
}

var (
	errNoText    = errors.New("the text to replace is not in the file")
	errManyTexts = errors.New("the text to replace is in the file more than once")
	errOverlap   = errors.New("an edit changes what another one looks for")
)

// mutate returns the contents of the files that m changes, by name.
func (m mutant) mutate(root string) (map[string]string, error) {
	changed := make(map[string]string)
	for _, e := range m.edits {
		b, err := os.ReadFile(filepath.Join(root, e.file))
		if err != nil {
			return nil, err
		}
		err = nil
		switch strings.Count(string(b), e.find) {
		case 0:
			err = errNoText
		case 1:
		default:
			err = errManyTexts
		}
		before, edited := changed[e.file]
		if !edited {
			before = string(b)
		}
		if err == nil && strings.Count(before, e.find) != 1 {
			err = errOverlap
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w: %q", e.file, err, e.find)
		}
		changed[e.file] = strings.Replace(before, e.find, e.with, 1)
	}
	return changed, nil
}

// overlay writes the mutated files and the overlay that has the compiler take
// them in place of the module's, into an empty directory. It returns the
// overlay's name.
func (m mutant) overlay(root, dir string) (string, error) {
	changed, err := m.mutate(root)
	if err != nil {
		return "", err
	}
	replace := make(map[string]string)
	for name, content := range changed {
		original, err := filepath.Abs(filepath.Join(root, name))
		if err != nil {
			return "", err
		}
		mutated, err := filepath.Abs(filepath.Join(dir, strconv.Itoa(len(replace))+".go"))
		if err != nil {
			return "", err
		}
		replace[original] = mutated
		if err := os.WriteFile(mutated, []byte(content), 0o600); err != nil {
			return "", err
		}
	}
	b, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return "", err
	}
	overlay := filepath.Join(dir, "overlay.json")
	return overlay, os.WriteFile(overlay, b, 0o600)
}
