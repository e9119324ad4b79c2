package database

import (
	"context"
	"errors"
	"fmt"
	"io"
	"testing"
)

// clone copies the content of from into to, through View, Incoming and Replace.
func clone(t testing.TB, from, to *Store) {
	t.Helper()
	if err := copyTo(from, to, false); err != nil {
		t.Fatal(err)
	}
	if err := to.Replace(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// receive commits a view as an incoming copy.
func receive(t testing.TB, to *Store, v *View) {
	t.Helper()
	if err := receiveView(v, to, false); err != nil {
		t.Fatal(err)
	}
}

func receiveView(v *View, to *Store, keepOld bool) error {
	in, err := to.Incoming(context.Background())
	if err != nil {
		return err
	}
	if n, err := io.Copy(in, v); err != nil || n != v.Size {
		return errors.Join(fmt.Errorf("copied %d of %d bytes, %w", n, v.Size, err), in.Abort())
	}
	return in.Commit(Copy{Index: v.Index, Term: v.Term, Configuration: v.Configuration, ConfigurationIndex: v.ConfigurationIndex, Size: v.Size, Pool: v.Pool, KeepOld: keepOld})
}

// copyTo makes the present content of from a pending copy of to.
func copyTo(from, to *Store, keepOld bool) error {
	v, err := from.View(context.Background())
	if err != nil {
		return err
	}
	return errors.Join(receiveView(v, to, keepOld), v.Close())
}

// same fails the test unless both have the same position and digest, and rows to match.
func same(t testing.TB, a, b *Store) {
	t.Helper()
	ia, da := a.Digest()
	ib, db := b.Digest()
	if ia != ib || da != db {
		t.Fatalf("index %d and %d, digests equal: %v", ia, ib, da == db)
	}
	sound(t, a)
	sound(t, b)
}

func TestViewIsOneMomentWhileWritingGoesOn(t *testing.T) {
	a, b := openStore(t, ""), openStore(t, "")
	must(t, a, cmd(1, UnitAdd{Name: "u"}), cmd(2, PoolPut{Pool: "p"}))
	for i := range uint64(50) {
		must(t, a, cmd(3+i, batch(record("u", i+1, int64(i), 1, 2, 3, 4))))
	}
	if _, err := a.Apply(t.Context(), []Entry{{Index: 100, Term: 2, Configuration: []byte("members")}}); err != nil {
		t.Fatal(err)
	}
	v, err := a.View(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	_, at := a.Digest()
	for i := range uint64(200) {
		must(t, a, cmd(100+i, batch(record("u", 100+i, int64(100+i), 1, 2, 3, 4))))
	}
	if _, _, err := a.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	if v.Index != 100 || v.Term != 2 || v.ConfigurationIndex != 100 || string(v.Configuration) != "members" || v.Pool != "p" {
		t.Fatalf("view %+v", v)
	}
	receive(t, b, v)
	if err := v.Close(); err != nil {
		t.Fatal(err)
	}
	if c, ok, err := b.Pending(); err != nil || !ok || c.Index != 100 {
		t.Fatalf("pending %+v %v %v", c, ok, err)
	}
	if err := b.Replace(t.Context()); err != nil {
		t.Fatal(err)
	}
	if i, d := b.Digest(); i != 100 || d != at {
		t.Fatalf("copy at %d, digest equal: %v", i, d == at)
	}
	if c, i := b.Configuration(); i != 100 || string(c) != "members" {
		t.Fatalf("configuration %q at %d", c, i)
	}
	if _, ok, err := b.Pending(); ok || err != nil {
		t.Fatalf("still pending, %v", err)
	}
	// The copy goes on where it is.
	for i := range uint64(200) {
		if _, err := b.Apply(t.Context(), []Entry{entry(t, 101+i, cmd(100+i, batch(record("u", 100+i, int64(100+i), 1, 2, 3, 4))))}); err != nil {
			t.Fatal(err)
		}
	}
	same(t, a, b)
}

func TestReplaceEndsReadersAndGoesOn(t *testing.T) {
	a, b := openStore(t, ""), openStore(t, "")
	must(t, a, cmd(1, UnitAdd{Name: "new"}))
	must(t, b, cmd(1, UnitAdd{Name: "old"}), cmd(2, UnitAdd{Name: "old2"}))
	v, err := b.View(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	rows, err := b.Query(t.Context(), "SELECT name FROM unit", 0)
	if err != nil {
		t.Fatal(err)
	}
	clone(t, a, b)
	if _, err := v.Read(make([]byte, 10)); !errors.Is(err, ErrReplaced) {
		t.Errorf("read of an old view: %v", err)
	}
	if rows.Next() || !errors.Is(rows.Err(), ErrReplaced) {
		t.Errorf("rows of an old query: %v", rows.Err())
	}
	if err := errors.Join(v.Close(), rows.Close()); err != nil {
		t.Error(err)
	}
	if _, err := b.Unit(t.Context(), "new"); err != nil {
		t.Error(err)
	}
	if _, err := b.Unit(t.Context(), "old"); !errors.Is(err, ErrNotFound) {
		t.Error(err)
	}
	same(t, a, b)
}

func TestUnfitCopiesAreRefusedAndDiscarded(t *testing.T) {
	a := openStore(t, "")
	must(t, a, cmd(1, UnitAdd{Name: "new"}), cmd(2, PoolPut{Pool: "p"}))
	v, err := a.View(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	good, err := io.ReadAll(v)
	if err := errors.Join(err, v.Close()); err != nil {
		t.Fatal(err)
	}
	damaged := append([]byte(nil), good...)
	for i := 4096 + 8; i < 2*4096; i++ {
		damaged[i] = 0xff
	}
	for _, row := range []struct {
		name  string
		bytes []byte
		copy  Copy
		want  error
	}{
		{"too short", good[:4096], Copy{Index: 2, Term: 1, Size: int64(len(good))}, ErrMismatch},
		{"cut off", good[:len(good)-4096], Copy{Index: 2, Term: 1}, ErrCorrupt},
		{"not a database", []byte("hello, this is no database at all"), Copy{Index: 2, Term: 1}, ErrForeign},
		{"other index", good, Copy{Index: 3, Term: 1}, ErrMismatch},
		{"other term", good, Copy{Index: 2, Term: 2}, ErrMismatch},
		{"other pool", good, Copy{Index: 2, Term: 1, Pool: "q"}, ErrOtherPool},
		{"damaged", damaged, Copy{Index: 2, Term: 1}, ErrCorrupt},
	} {
		t.Run(row.name, func(t *testing.T) {
			b := openStore(t, "")
			must(t, b, cmd(1, UnitAdd{Name: "old"}))
			in, err := b.Incoming(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if _, err := in.Write(row.bytes); err != nil {
				t.Fatal(err)
			}
			if err = in.Commit(row.copy); err == nil {
				err = b.Replace(context.Background())
			}
			if !errors.Is(err, row.want) {
				t.Fatalf("got %v, want %v", err, row.want)
			}
			if _, ok, err := b.Pending(); ok || err != nil {
				t.Errorf("still pending: %v %v", ok, err)
			}
			if _, err := b.Unit(t.Context(), "old"); err != nil {
				t.Errorf("the old content: %v", err)
			}
		})
	}
}
