package auth

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"

	"github.com/engramdb/engram/internal/strictjson"
)

// keyFileVersion is the version of the key file's format.
const keyFileVersion = 1

// maxKeyFileBytes bounds what is read and written: 40,000 to 77,000 keys.
const maxKeyFileBytes = 16 << 20

// ErrKeys is wrapped by every error about keys that cannot be loaded or stored.
var ErrKeys = errors.New("keys")

// ErrKeyNotFound says that no key has that id.
var ErrKeyNotFound = errors.New("no such key")

type keyFile struct {
	Version int   `json:"version"`
	Keys    []Key `json:"keys"`
}

// ParseKeys reads the JSON of a key file. It fails with ErrKeys at the first
// thing that is not right: half of the keys would be a surprise.
func ParseKeys(data []byte) ([]Key, error) {
	var file keyFile
	if err := strictjson.Unmarshal(data, &file); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKeys, err)
	}
	if file.Version != keyFileVersion {
		return nil, fmt.Errorf("%w: version %d, want %d", ErrKeys, file.Version, keyFileVersion)
	}
	seen := map[string]bool{}
	for _, key := range file.Keys {
		hash, err := hex.DecodeString(key.Hash)
		switch {
		case len(key.ID) != keyIDLength:
			return nil, fmt.Errorf("%w: id %q is not of %d characters", ErrKeys, key.ID, keyIDLength)
		case seen[key.ID]:
			return nil, fmt.Errorf("%w: %s stands there twice", ErrKeys, key.ID)
		case err != nil || len(hash) != 32 || hex.EncodeToString(hash) != key.Hash:
			return nil, fmt.Errorf("%w: %s: sha256 is not 64 lower-case hex digits", ErrKeys, key.ID)
		case len(key.Scopes) == 0:
			return nil, fmt.Errorf("%w: %s has no scope", ErrKeys, key.ID)
		}
		seen[key.ID] = true
	}
	return file.Keys, nil
}

// ReadKeys reads a key file. It fails with ErrKeys.
func ReadKeys(path string) ([]Key, error) {
	keys, _, err := readKeys(path)
	return keys, err
}

// refuseIrregular refuses what is there and is no regular file: opening a pipe waits for
// who writes to it, and everybody who shows a credential meanwhile.
func refuseIrregular(path string) error {
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() {
		return fmt.Errorf("%s is not a regular file", path)
	}
	return nil
}

// readKeys returns, with the keys, what the file was when they were read.
func readKeys(path string) (keys []Key, info fs.FileInfo, err error) {
	if err := refuseIrregular(path); err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrKeys, err)
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrKeys, err)
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	info, err = file.Stat()
	switch {
	case err != nil:
		return nil, nil, fmt.Errorf("%w: %w", ErrKeys, err)
	case info.Size() > maxKeyFileBytes:
		return nil, nil, fmt.Errorf("%w: %s is larger than %d bytes", ErrKeys, path, maxKeyFileBytes)
	case runtime.GOOS != "windows" && info.Mode().Perm()&0o022 != 0:
		// Who can write it can let anybody in. Reading gives hashes only.
		return nil, nil, fmt.Errorf("%w: %s may be written by others (mode %04o): chmod 600 it", ErrKeys, path, info.Mode().Perm())
	}
	data := make([]byte, info.Size())
	if n, err := file.ReadAt(data, 0); n != len(data) {
		return nil, nil, fmt.Errorf("%w: read %s: %w", ErrKeys, path, err)
	}
	keys, err = ParseKeys(data)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", path, err)
	}
	return keys, info, nil
}

// UpdateKeys replaces the keys of a file by what change makes of them. A file
// that is not there has none. The new file is flushed before it takes the
// name, so a crash leaves the old keys or the new, and has the owner, group and
// mode of the old one. It fails with ErrKeys, and with the error of change.
func UpdateKeys(path string, change func([]Key) ([]Key, error)) error {
	unlock, err := lockKeys(path)
	if err != nil {
		return err
	}
	defer unlock()
	keys, err := ReadKeys(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if keys, err = change(keys); err != nil {
		return err
	}
	data, err := json.MarshalIndent(keyFile{Version: keyFileVersion, Keys: keys}, "", "  ")
	if err != nil {
		return fmt.Errorf("%w: encode: %w", ErrKeys, err)
	}
	if data = append(data, '\n'); len(data) > maxKeyFileBytes {
		return fmt.Errorf("%w: %s would be larger than %d bytes", ErrKeys, path, maxKeyFileBytes)
	}
	if err := replaceFile(path, data); err != nil {
		return fmt.Errorf("%w: %w", ErrKeys, err)
	}
	return nil
}

// lockKeys keeps two commands from overwriting each other's change.
func lockKeys(path string) (unlock func(), err error) {
	lock := path + ".lock"
	file, err := os.OpenFile(lock, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("%w: another command is changing them; if none is, remove %s", ErrKeys, lock)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKeys, err)
	}
	return func() { _, _ = file.Close(), os.Remove(lock) }, nil
}

// replaceFile puts data in place of what path names, whole or not at all.
func replaceFile(path string, data []byte) (err error) {
	temporary, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*.new") // 0600
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(temporary.Name()))
		}
	}()
	err = keepAccess(path, temporary)
	if err == nil {
		_, err = temporary.Write(data)
	}
	if err = errors.Join(err, temporary.Sync(), temporary.Close()); err != nil {
		return err
	}
	if err := os.Rename(temporary.Name(), path); err != nil {
		return err
	}
	return syncDirectory(filepath.Dir(path))
}

// keepAccess lets those read the new file, and only those, who can read what path
// names, if anything: to a server that cannot, a revocation would be no news.
func keepAccess(path string, replacement *os.File) error {
	former, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := keepOwner(former, replacement); err != nil {
		return err
	}
	return replacement.Chmod(former.Mode().Perm())
}

// syncDirectory makes a rename durable where the system can flush a directory.
func syncDirectory(path string) error {
	if runtime.GOOS == "windows" {
		return nil
	}
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
