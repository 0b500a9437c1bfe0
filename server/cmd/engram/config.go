package main

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"go.uber.org/zap"
	"go.yaml.in/yaml/v3"

	"github.com/engramdb/engram/server/internal/auth"
	"github.com/engramdb/engram/server/internal/tracing"
)

const (
	configFlag        = "config"
	environmentPrefix = "ENGRAM_"
	redacted          = "(redacted)"
)

// Where a setting comes from, the strongest first.
const (
	fromFlag        = "flag"
	fromEnvironment = "environment"
	fromFile        = "file"
	fromDefault     = "default"
)

// configurable reports whether a flag is a setting: those of the command line
// itself are not.
func configurable(name string) bool {
	return name != "help" && name != "output" && name != "addr" && name != configFlag && !isCredential(name)
}

// variableOf returns the variable of the environment that holds a setting.
func variableOf(name string) string {
	return environmentPrefix + strings.ToUpper(strings.ReplaceAll(name, "-", "_"))
}

// configure sets the flags that the command line does not give: from the
// environment, else from the file of --config. It returns where each comes from.
func configure(flags *pflag.FlagSet) (sources map[string]string, err error) {
	path := flags.Lookup(configFlag).Value.String()
	if path == "" {
		path = os.Getenv(variableOf(configFlag))
	}
	inFile, err := readConfig(path)
	if err != nil {
		return nil, err
	}
	sources = map[string]string{}
	flags.VisitAll(func(flag *pflag.Flag) {
		if !configurable(flag.Name) {
			return
		}
		values, here := inFile[flag.Name]
		delete(inFile, flag.Name)
		source, where := fromFile, path+": "+flag.Name
		variable := variableOf(flag.Name)
		if value, set := os.LookupEnv(variable); set && value != "" {
			source, where, values, here = fromEnvironment, variable, valuesOf(flag, value), true
		}
		if source != fromEnvironment && flag.Name == traceEndpointFlag {
			if value, variable := tracing.StandardEndpoint(); value != "" {
				source, where, values, here = fromEnvironment, variable, []string{value}, true
			}
		}
		switch {
		case flag.Changed:
			sources[flag.Name] = fromFlag
		case !here:
			sources[flag.Name] = fromDefault
		default:
			sources[flag.Name] = source
			err = errors.Join(err, setFlag(flags, flag, values, where))
		}
	})
	if len(inFile) > 0 {
		unknown := slices.Sorted(maps.Keys(inFile))
		err = errors.Join(err, fmt.Errorf("%s: unknown settings: %s", path, strings.Join(unknown, ", ")))
	}
	return sources, err
}

// valuesOf splits a variable that holds a list at its spaces.
func valuesOf(flag *pflag.Flag, value string) []string {
	if isList(flag) {
		return strings.Fields(value)
	}
	return []string{value}
}

func isList(flag *pflag.Flag) bool {
	_, list := flag.Value.(pflag.SliceValue)
	return list
}

func setFlag(flags *pflag.FlagSet, flag *pflag.Flag, values []string, where string) error {
	if len(values) != 1 && !isList(flag) {
		return fmt.Errorf("%s: one value, not a list", where)
	}
	for _, value := range values {
		if err := flags.Set(flag.Name, value); err != nil {
			return fmt.Errorf("%s: %w", where, err)
		}
	}
	return nil
}

// readConfig returns the settings of a file as texts. No path, no settings.
func readConfig(path string) (map[string][]string, error) {
	if path == "" {
		return nil, nil
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("--config: %w", err)
	}
	var nodes map[string]yaml.Node
	if err := yaml.Unmarshal(data, &nodes); err != nil {
		return nil, fmt.Errorf("--config %s: %w", path, err)
	}
	settings := map[string][]string{}
	for name, node := range nodes {
		if !configurable(name) {
			return nil, fmt.Errorf("--config %s: %s is no setting", path, name)
		}
		elements := []*yaml.Node{&node}
		if node.Kind == yaml.SequenceNode {
			elements = node.Content
		}
		settings[name] = []string{}
		for _, element := range elements {
			if element.Kind != yaml.ScalarNode || element.Tag == "!!null" {
				return nil, fmt.Errorf("--config %s: %s must be a value or a list of values", path, name)
			}
			settings[name] = append(settings[name], element.Value)
		}
	}
	return settings, nil
}

func (a *app) configCommand() *cobra.Command {
	return groupCommand("config", "Look at the settings of a server", a.configCheckCommand())
}

// settingItem is one line of config check.
type settingItem struct {
	Name   string `json:"name"`
	Value  string `json:"value"`
	Source string `json:"source"`
}

func (a *app) configCheckCommand() *cobra.Command {
	var settings serveFlags
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Show the settings that engram serve would have, and whether it would start with them",
		Long: `Show the settings that engram serve would have with the same flags, environment
and file, and where each comes from. The exit status is 0 if a server could start
with them: addresses, keys and TLS files are looked at. The data directory is not.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			sources, err := configure(cmd.Flags())
			if err != nil {
				return err
			}
			items := []settingItem{}
			t := table{header: []string{"SETTING", "VALUE", "SOURCE"}, uncut: true}
			cmd.Flags().VisitAll(func(flag *pflag.Flag) {
				if configurable(flag.Name) {
					item := settingItem{flag.Name, shown(flag), sources[flag.Name]}
					items = append(items, item)
					t.add(item.Name, item.Value, item.Source)
				}
			})
			if err := a.emit(map[string]any{"settings": items}, &t); err != nil {
				return err
			}
			return settings.check(cmd)
		},
	}
	settings.register(cmd.Flags())
	return cmd
}

// shown returns the value of a setting without what must not be in a terminal or
// a bug report: keys in the value itself, and credentials in a URL.
func shown(flag *pflag.Flag) string {
	value := flag.Value.String()
	if flag.Name == "keys" && auth.IsInline(value) {
		return redacted
	}
	if scheme, rest, found := strings.Cut(value, "://"); found {
		// The last one ends the credentials, in which there may be others.
		if at := strings.LastIndexByte(rest, '@'); at >= 0 {
			return scheme + "://" + redacted + rest[at:]
		}
	}
	return value
}

// check does what serve does before it opens the data directory.
func (f *serveFlags) check(cmd *cobra.Command) error {
	if _, err := f.addresses(); err != nil {
		return err
	}
	if _, err := f.embedder.embedder(os.Getenv(embedderKeyVariable)); err != nil {
		return err
	}
	if _, err := f.traces.config(); err != nil {
		return err
	}
	opened, err := f.access.open(cmd.Context(), zap.NewNop())
	opened.Close()
	if err != nil {
		return err
	}
	if f.access.tlsCert == "" {
		return nil
	}
	_, err = openTLS(f.access, zap.NewNop())
	return err
}
