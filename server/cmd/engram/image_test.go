package main

import (
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/spf13/pflag"
	"github.com/stretchr/testify/require"
)

// instruction is one of a Dockerfile.
type instruction struct{ name, rest string }

// dockerfile returns the instructions of deploy/Dockerfile, and its comments.
func dockerfile(t *testing.T) (instructions []instruction, comments string) {
	t.Helper()
	text, err := os.ReadFile("../../../deploy/Dockerfile")
	require.NoError(t, err)
	for line := range strings.Lines(string(text)) {
		if comment, found := strings.CutPrefix(line, "#"); found {
			comments += comment
		}
	}
	bare := regexp.MustCompile(`(?m)^#.*\n`).ReplaceAllString(string(text), "")
	for line := range strings.Lines(strings.ReplaceAll(bare, "\\\n", "")) {
		if name, rest, found := strings.Cut(strings.TrimSpace(line), " "); found {
			instructions = append(instructions, instruction{name, strings.TrimSpace(rest)})
		}
	}
	return instructions, strings.ReplaceAll(comments, "\\\n", "")
}

// valuesOfAll returns the rests of all instructions of a name.
func valuesOfAll(instructions []instruction, name string) (rests []string) {
	for _, one := range instructions {
		if one.name == name {
			rests = append(rests, one.rest)
		}
	}
	return rests
}

// imageEnvironment returns the variables of the image itself, which come last.
func imageEnvironment(t *testing.T, instructions []instruction) map[string]string {
	t.Helper()
	all := valuesOfAll(instructions, "ENV")
	require.Len(t, all, 2)
	environment := map[string]string{}
	for _, pair := range strings.Fields(all[1]) {
		name, value, found := strings.Cut(pair, "=")
		require.True(t, found, pair)
		environment[name] = value
	}
	return environment
}

// TestDockerfile holds what deploy/Dockerfile says to the repository and the
// command: versions, paths, settings, ports.
func TestDockerfile(t *testing.T) {
	all, comments := dockerfile(t)
	module, err := os.ReadFile("../../go.mod")
	require.NoError(t, err)
	version := regexp.MustCompile(`(?m)^go (\d+\.\d+)`).FindStringSubmatch(string(module))
	require.Equal(t, []string{"golang:" + version[1] + " AS build", "scratch"}, valuesOfAll(all, "FROM"))

	// The sources are copied to the first directory, and built in a module of them.
	places := valuesOfAll(all, "WORKDIR")
	require.Len(t, places, 2)
	built, err := filepath.Rel(places[0], places[1])
	require.NoError(t, err)
	require.FileExists(t, filepath.Join("../../..", built, "go.mod"))
	require.Equal(t, ". .", valuesOfAll(all, "COPY")[0])
	run := valuesOfAll(all, "RUN")
	require.Len(t, run, 1)
	output := regexp.MustCompile(`-o (\S+) (\./\S+)`).FindStringSubmatch(run[0])
	require.NotNil(t, output)
	require.FileExists(t, filepath.Join("../../..", built, output[2], "main.go"))
	require.Contains(t, valuesOfAll(all, "ENV")[0], "CGO_ENABLED=0")

	// What is copied into the image has been made, and is what it runs.
	copied := map[string]string{}
	for _, rest := range valuesOfAll(all, "COPY")[1:] {
		words := strings.Fields(rest)
		copied[words[len(words)-1]] = words[len(words)-2]
		require.Contains(t, words, "--from=build")
	}
	require.Equal(t, output[1], copied["/engram"])
	require.Equal(t, []string{`["/engram", "serve"]`}, valuesOfAll(all, "ENTRYPOINT"))
	require.Contains(t, run[0], "mkdir -m 0700 "+copied["/data"])
	user := valuesOfAll(all, "USER")[0]
	id, err := strconv.Atoi(strings.Split(user, ":")[0])
	require.NoError(t, err)
	require.Positive(t, id, "nobody is root")
	require.Contains(t, strings.Join(valuesOfAll(all, "COPY"), "\n"), "--chown="+user+" "+copied["/data"]+" /data")

	// Its variables are settings, its ports theirs, and its directory is the volume.
	var settings serveFlags
	flags := pflag.NewFlagSet("serve", pflag.ContinueOnError)
	settings.register(flags)
	flags.String("data", "", "")
	variables := map[string]bool{}
	flags.VisitAll(func(f *pflag.Flag) { variables[variableOf(f.Name)] = true })
	environment := imageEnvironment(t, all)
	var ports []string
	for name, value := range environment {
		require.True(t, variables[name], name)
		if host, port, found := strings.Cut(value, ":"); found {
			require.Equal(t, "0.0.0.0", host)
			ports = append(ports, port)
		}
	}
	require.ElementsMatch(t, ports, strings.Fields(valuesOfAll(all, "EXPOSE")[0]))
	require.Equal(t, environment["ENGRAM_DATA"], valuesOfAll(all, "VOLUME")[0])
	require.Equal(t, []string{"SIGTERM"}, valuesOfAll(all, "STOPSIGNAL"))

	// The commands in its comments name variables, flags and ports that there are.
	for _, name := range regexp.MustCompile(`ENGRAM_[A-Z_]+`).FindAllString(comments, -1) {
		require.True(t, variables[name], name)
	}
	for _, name := range regexp.MustCompile(`engram --([a-z-]+)`).FindAllStringSubmatch(comments, -1) {
		require.NotNil(t, flags.Lookup(name[1]), name[1])
	}
	for _, port := range regexp.MustCompile(`-p 127\.0\.0\.1:\d+:(\d+)`).FindAllStringSubmatch(comments, -1) {
		require.Contains(t, ports, port[1])
	}
	require.Contains(t, comments, "-f deploy/Dockerfile")
	ignored, err := os.ReadFile("../../../.dockerignore")
	require.NoError(t, err)
	for line := range strings.Lines(string(ignored)) {
		require.NotContains(t, []string{"server", path.Join(built, output[2])}, strings.TrimSpace(line))
	}
}
