package settings

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/BurntSushi/toml"
)

// maxFile bounds what is read: the file with all keys takes about 2 kilobytes.
const maxFile = 1 << 20

const header = `# This node's own settings. They are not replicated to the other Manager.
# Edit only while the Manager is stopped, or use "manager redundancy set".

`

// Load reads the settings in dir. Keys that the file does not have keep their Default; when there
// is no file, all do. The result is not validated: call Validate.
//
// Errors name the line and the key: an unknown key, a value of the wrong kind, broken TOML.
func Load(dir string) (Settings, error) {
	path := filepath.Join(dir, FileName)
	text, err := readLimited(path)
	if errors.Is(err, fs.ErrNotExist) {
		return Default(), nil
	}
	if err != nil {
		return Settings{}, err
	}
	s, err := Decode(text)
	if err != nil {
		return Settings{}, fmt.Errorf("%s: %w", path, err)
	}
	return s, nil
}

// Decode reads settings from TOML, as Load does.
func Decode(text []byte) (Settings, error) {
	s := Default()
	meta, err := toml.NewDecoder(bytes.NewReader(text)).Decode(&s)
	if err != nil {
		return Settings{}, decodeError(err)
	}
	if unknown := meta.Undecoded(); len(unknown) > 0 {
		return Settings{}, fmt.Errorf("line %d: unknown key %q: remove it or correct its spelling",
			lineOf(string(text), unknown[0]), unknown[0].String())
	}
	if s.Mode == "" {
		s.Mode = Standalone
	}
	return s, nil
}

func decodeError(err error) error {
	var pe toml.ParseError
	if !errors.As(err, &pe) {
		return fmt.Errorf("%s: correct the value", strings.TrimPrefix(err.Error(), "toml: "))
	}
	where := fmt.Sprintf("line %d", pe.Position.Line)
	if pe.LastKey != "" {
		where += fmt.Sprintf(", key %q", pe.LastKey)
	}
	what := pe.Message
	if what == "" {
		what = strings.TrimPrefix(pe.Error(), "toml: ")
	}
	return fmt.Errorf("%s: %s: correct the line", where, what)
}

// lineOf finds the line of a key that the decoder read but did not know; 1 when it is written in
// a form that this simple search does not see (a dotted or quoted key).
func lineOf(text string, key toml.Key) int {
	table := ""
	for i, line := range strings.Split(text, "\n") {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "[") {
			table = strings.TrimSpace(strings.Trim(strings.SplitN(line, "#", 2)[0], "[] \t"))
			if table == key.String() {
				return i + 1
			}
			continue
		}
		name, _, ok := strings.Cut(line, "=")
		if !ok {
			continue
		}
		name = strings.Trim(strings.TrimSpace(name), `"'`)
		if table != "" {
			name = table + "." + name
		}
		if name == key.String() || strings.HasPrefix(key.String(), name+".") {
			return i + 1
		}
	}
	return 1
}

// Save replaces the settings in dir, durably: after a power cut the old or the new ones are
// there. It does not validate.
func Save(dir string, s Settings) error {
	var b bytes.Buffer
	b.WriteString(header)
	e := toml.NewEncoder(&b)
	e.Indent = ""
	if err := e.Encode(s); err != nil {
		return fmt.Errorf("settings: encode: %w", err)
	}
	return writeFile(filepath.Join(dir, FileName), b.Bytes())
}

func readLimited(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("settings: open: %w", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, fmt.Errorf("settings: read %s: %w", path, err)
	}
	if len(text) > maxFile {
		return nil, fmt.Errorf("settings: %s is larger than %d bytes: it is not a file of this program", path, maxFile)
	}
	return text, nil
}

// writeFile replaces path by content: after a power cut either the old or the new content is
// there, never a part. The file has mode 0600.
func writeFile(path string, content []byte) (err error) {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, filepath.Base(path)+".new-*") // mode 0600 by definition
	if err != nil {
		return fmt.Errorf("settings: write %s: %w", path, err)
	}
	defer func() {
		if err != nil {
			f.Close()
			os.Remove(f.Name())
		}
	}()
	if _, err := f.Write(content); err != nil {
		return fmt.Errorf("settings: write %s: %w", path, err)
	}
	if err := f.Sync(); err != nil {
		return fmt.Errorf("settings: sync %s: %w", path, err)
	}
	if err := f.Close(); err != nil {
		return fmt.Errorf("settings: close %s: %w", path, err)
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return fmt.Errorf("settings: replace %s: %w", path, err)
	}
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("settings: open %s to sync it: %w", dir, err)
	}
	defer d.Close()
	if err := d.Sync(); err != nil {
		return fmt.Errorf("settings: sync %s: %w", dir, err)
	}
	return nil
}
