package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/engramdb/engram/internal/strictjson"
)

// The environment, which counts less than flags and more than the file.
const (
	addressVariable  = "ENGRAM_ADDR"
	defaultsVariable = "ENGRAM_DEFAULTS"
)

// defaults is the file of a user's defaults.
type defaults struct {
	Addr  string `json:"addr"`
	Space string `json:"space"`
}

// readDefaults reads $ENGRAM_DEFAULTS, else engram/defaults.json below the user's
// directory for such files. That there is none is no error.
func readDefaults() (defaults, string, error) {
	path := os.Getenv(defaultsVariable)
	if path == "" {
		dir, err := os.UserConfigDir()
		if err != nil {
			return defaults{}, "", nil // no home, no file
		}
		path = filepath.Join(dir, "engram", "defaults.json")
	}
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return defaults{}, path, nil
	}
	var c defaults
	if err == nil {
		err = strictjson.Unmarshal(text, &c)
	}
	if err != nil {
		return defaults{}, path, fmt.Errorf("%s: %w", path, err)
	}
	return c, path, nil
}

// server returns the address of the server to work on, or "" for the directory.
// $ENGRAM_DATA names which directory that is, and makes none preferred.
// A flag for the one counts more than a default for the other.
func (a *app) server() (string, error) {
	switch {
	case a.addr != "" && a.dataGiven():
		return "", errors.New("give either --addr or --data")
	case a.addr != "":
		return a.addr, nil
	case a.dataGiven():
		return "", nil
	}
	if address := os.Getenv(addressVariable); address != "" {
		return address, nil
	}
	c, _, err := readDefaults()
	return c.Addr, err
}
