package trial

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// Binaries are the full paths of the programs of a pool.
type Binaries struct{ Manager, Arbiter, FieldUnit string }

func binariesIn(dir string) Binaries {
	return Binaries{
		Manager:   filepath.Join(dir, "manager"),
		Arbiter:   filepath.Join(dir, "arbiter"),
		FieldUnit: filepath.Join(dir, "fieldunit"),
	}
}

// FindBinaries takes the programs that stand in dir.
func FindBinaries(dir string) (Binaries, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return Binaries{}, fmt.Errorf("find programs: %w", err)
	}
	b := binariesIn(dir)
	for _, p := range []string{b.Manager, b.Arbiter, b.FieldUnit} {
		if st, err := os.Stat(p); err != nil || st.IsDir() {
			return Binaries{}, fmt.Errorf("no program %s: build it (go build -o %s ./cmd/...) or leave --bin away", p, dir)
		}
	}
	return b, nil
}

// BuildBinaries builds the programs from the module that the working directory belongs to into
// dir. Go's own cache makes a second call cheap.
func BuildBinaries(ctx context.Context, dir string) (Binaries, error) {
	out, err := exec.CommandContext(ctx, "go", "env", "GOMOD").Output()
	if err != nil {
		return Binaries{}, fmt.Errorf("ask go for the module: %w: install Go, or give the programs' folder with --bin", err)
	}
	mod := strings.TrimSpace(string(out))
	if mod == "" || mod == os.DevNull {
		return Binaries{}, errors.New("the working directory belongs to no Go module: change to the repository, or give the programs' folder with --bin")
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return Binaries{}, fmt.Errorf("create folder for programs: %w", err)
	}
	cmd := exec.CommandContext(ctx, "go", "build", "-o", dir+"/", "./cmd/manager", "./cmd/arbiter", "./cmd/fieldunit")
	cmd.Dir = filepath.Dir(mod)
	if text, err := cmd.CombinedOutput(); err != nil {
		return Binaries{}, fmt.Errorf("build the programs: %w\n%s", err, text)
	}
	return binariesIn(dir), nil
}
