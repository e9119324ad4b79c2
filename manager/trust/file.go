package trust

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// maxFile bounds what is read from one file: a key takes 300 bytes, trust.json some kilobytes.
const maxFile = 1 << 20

func readLimited(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("trust: open: %w", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, fmt.Errorf("trust: read %s: %w", path, err)
	}
	if len(text) > maxFile {
		return nil, fmt.Errorf("trust: %s is larger than %d bytes: it is not a file of this program", path, maxFile)
	}
	return text, nil
}

// writeFile replaces path by content: after a power cut either the old or the new content is
// there, never a part. The file has mode 0600.
func writeFile(path string, content []byte) (err error) {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, filepath.Base(path)+".new-*") // mode 0600 by definition
	if err != nil {
		return fmt.Errorf("trust: write %s: %w", path, err)
	}
	defer func() {
		if err != nil {
			f.Close()
			os.Remove(f.Name())
		}
	}()
	if _, err := f.Write(content); err != nil {
		return fmt.Errorf("trust: write %s: %w", path, err)
	}
	if err := f.Sync(); err != nil {
		return fmt.Errorf("trust: sync %s: %w", path, err)
	}
	if err := f.Close(); err != nil {
		return fmt.Errorf("trust: close %s: %w", path, err)
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return fmt.Errorf("trust: replace %s: %w", path, err)
	}
	return syncDir(dir)
}

// syncDir makes a rename in dir durable.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("trust: open %s to sync it: %w", dir, err)
	}
	defer d.Close()
	if err := d.Sync(); err != nil {
		return fmt.Errorf("trust: sync %s: %w", dir, err)
	}
	return nil
}
