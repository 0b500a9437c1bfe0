package main

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/engramdb/engram/server/internal/auth"
)

const defaultKeyFile = "engram-keys.json"

func (a *app) keyCommand() *cobra.Command {
	var path string
	cmd := groupCommand("key", "Create, list and revoke API keys",
		a.keyCreateCommand(&path), a.keyListCommand(&path), a.keyRevokeCommand(&path))
	cmd.Long = `Create, list and revoke the API keys in a file. A server that was started with
engram serve --keys FILE follows the file: a change counts at once.`
	cmd.PersistentFlags().StringVar(&path, "keys", defaultKeyFile, "`file` of the keys")
	return cmd
}

// createdKey is the answer of key create, and the only place where the secret is.
type createdKey struct {
	keyItem

	Key string `json:"key"`
}

// keyItem is a key as it is listed.
type keyItem struct {
	ID      string       `json:"id"`
	Name    string       `json:"name,omitempty"`
	Scopes  []auth.Scope `json:"scopes"`
	Created time.Time    `json:"created"`
	Expires time.Time    `json:"expires,omitzero"`
	Revoked time.Time    `json:"revoked,omitzero"`
	Status  string       `json:"status"`
}

func itemOf(key auth.Key) keyItem {
	return keyItem{
		ID: key.ID, Name: key.Name, Scopes: key.Scopes, Created: key.Created,
		Expires: key.Expires, Revoked: key.Revoked, Status: key.Status(time.Now()),
	}
}

func (a *app) keyCreateCommand(path *string) *cobra.Command {
	var (
		name    string
		texts   []string
		expires expiryFlag
	)
	cmd := &cobra.Command{
		Use:   "create --scope PATTERN:VERB,VERB",
		Short: "Create a key, and print it once: it is stored nowhere",
		Long: `Create a key, and print it once: it is stored nowhere, the file holds only a
hash. A scope names a space, a prefix of spaces as in team-*, or * for all, and
any of the verbs read, write and admin. No verb includes another.`,
		Example: `  engram key create --name agents --scope 'team-*:read,write'
  engram key create --name operator --scope '*:read,write,admin' --expires 720h`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			scopes, err := auth.ParseScopes(texts)
			if errors.Is(err, auth.ErrScope) && len(texts) == 0 {
				return errors.New("give at least one --scope PATTERN:VERB,VERB")
			}
			if err != nil {
				return err
			}
			key, secret := auth.NewKey(name, scopes, time.Now(), expires.Time)
			if err := auth.UpdateKeys(*path, func(keys []auth.Key) ([]auth.Key, error) {
				return append(keys, key), nil
			}); err != nil {
				return err
			}
			t := table{uncut: true}
			for _, row := range [][]string{
				{"id", key.ID},
				{"name", key.Name},
				{"scopes", joinScopes(key.Scopes)},
				{"expires", timeOrNever(key.Expires)},
				{"key", secret},
				{"", "This is the only time that the key is shown."},
			} {
				t.add(row...)
			}
			return a.emit(createdKey{itemOf(key), secret}, &t)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&name, "name", "", "what the key is for, shown in lists")
	flags.StringArrayVar(&texts, "scope", nil, "what it may do, as PATTERN:VERB,VERB; may be repeated")
	flags.Var(&expires, "expires", "when it ends: a time, or a duration from now such as 720h; default never")
	return cmd
}

func (a *app) keyListCommand(path *string) *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List the keys, without their secrets",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			keys, err := auth.ReadKeys(*path)
			if err != nil {
				return err
			}
			items := []keyItem{}
			t := table{header: []string{"ID", "NAME", "STATUS", "EXPIRES", "SCOPES"}}
			for _, key := range keys {
				item := itemOf(key)
				items = append(items, item)
				t.add(item.ID, item.Name, item.Status, timeOrNever(item.Expires), joinScopes(item.Scopes))
			}
			return a.emit(map[string]any{"keys": items}, &t)
		},
	}
}

func (a *app) keyRevokeCommand(path *string) *cobra.Command {
	return &cobra.Command{
		Use:   "revoke ID",
		Short: "Refuse a key from now on, also on open streams",
		Args:  cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			var revoked keyItem
			err := auth.UpdateKeys(*path, func(keys []auth.Key) ([]auth.Key, error) {
				for i := range keys {
					if keys[i].ID != args[0] {
						continue
					}
					if keys[i].Revoked.IsZero() {
						keys[i].Revoked = time.Now().UTC().Truncate(time.Second)
					}
					revoked = itemOf(keys[i])
					return keys, nil
				}
				return nil, fmt.Errorf("%w: %s", auth.ErrKeyNotFound, args[0])
			})
			if err != nil {
				return err
			}
			t := table{rows: [][]string{{"revoked", revoked.ID, revoked.Name}}}
			return a.emit(revoked, &t)
		},
	}
}

func joinScopes(scopes []auth.Scope) string {
	texts := make([]string, len(scopes))
	for i, scope := range scopes {
		texts[i] = scope.String()
	}
	return strings.Join(texts, " ")
}

func timeOrNever(t time.Time) string {
	if t.IsZero() {
		return "never"
	}
	return t.Format(time.RFC3339)
}

// expiryFlag is a point in time, or a duration from now.
type expiryFlag struct{ timeFlag }

// Set implements pflag.Value.
func (f *expiryFlag) Set(s string) error {
	if lifetime, err := time.ParseDuration(s); err == nil {
		if lifetime <= 0 {
			return errors.New("must be positive")
		}
		f.Time = time.Now().Add(lifetime).UTC().Truncate(time.Second)
		return nil
	}
	t, err := time.Parse(time.RFC3339Nano, s)
	switch {
	case err != nil:
		return errors.New("must look like 2026-01-31T15:04:05Z, or like 720h, of at most 2562047h")
	case !t.After(time.Now()):
		return errors.New("is past")
	}
	f.Time = t
	return nil
}
