package trust

import (
	"errors"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// clock is a wall clock that a test moves.
type clock struct{ now time.Time }

func (c *clock) use(s *Store) { s.now = func() time.Time { return c.now } }

func open(t *testing.T, dir string) *Store {
	t.Helper()
	s, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestIdentitySurvivesARestart(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	first := open(t, dir)
	if err := os.Remove(filepath.Join(dir, certFile)); err != nil { // a new certificate of the same key changes nothing
		t.Fatal(err)
	}
	if again := open(t, dir); again.Fingerprint() != first.Fingerprint() {
		t.Errorf("fingerprint changed from %v to %v", first.Fingerprint(), again.Fingerprint())
	}
	if other := open(t, t.TempDir()); other.Fingerprint() == first.Fingerprint() {
		t.Error("two nodes have one fingerprint")
	}
	for _, name := range []string{keyFile, certFile} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %04o, want 0600", name, info.Mode().Perm())
		}
	}
}

func TestOpenRefusesADamagedFolder(t *testing.T) {
	write := func(name, text string, mode os.FileMode) func(string) error {
		return func(dir string) error { return os.WriteFile(filepath.Join(dir, name), []byte(text), mode) }
	}
	for _, tt := range []struct {
		name   string
		damage func(dir string) error
		want   string // part of the message
	}{
		{"key lost while the certificate is there: no silent new identity",
			func(dir string) error { return os.Remove(filepath.Join(dir, keyFile)) }, "restore the key"},
		{"key readable by others", func(dir string) error { return os.Chmod(filepath.Join(dir, keyFile), 0o644) }, "chmod 600"},
		{"key damaged", write(keyFile, "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", 0o600), "cannot be read"},
		{"key empty", write(keyFile, "", 0o600), "no PEM block"},
		{"trust.json cut off", write(stateFile, `{"version":1,"peers":[`, 0o600), "damaged"},
		{"trust.json of a later version", write(stateFile, `{"version":9}`, 0o600), "version 9"},
		{"trust.json with an unknown field", write(stateFile, `{"version":1,"friends":[]}`, 0o600), "friends"},
		{"trust.json with an empty fingerprint", write(stateFile,
			`{"version":1,"peers":[{"fingerprint":"`+strings.Repeat("0", 64)+`","role":"backup"}]}`, 0o600), "empty fingerprint"},
		{"trust.json with a token without its key", write(stateFile, `{"version":1,"token":{"key":"AA=="}}`, 0o600), "pairing token"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			open(t, dir)
			if err := tt.damage(dir); err != nil {
				t.Fatal(err)
			}
			_, err := Open(dir)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want one with %q", err, tt.want)
			}
		})
	}
}

func TestApprovedPeersSurviveARestart(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	backup, arbiter := Fingerprint{1}, Fingerprint{2}
	for _, step := range []error{
		s.Approve(PeerRecord{Fingerprint: backup, Role: "backup", Name: "cell 2"}),
		s.Approve(PeerRecord{Fingerprint: arbiter, Role: "arbiter", Name: ""}),
		s.Approve(PeerRecord{Fingerprint: backup, Role: "backup", Name: "cell 3"}),
	} {
		if step != nil {
			t.Fatal(step)
		}
	}
	s = open(t, dir)
	list := s.List()
	if len(list) != 2 || list[0].Fingerprint != arbiter || list[1].Name != "cell 3" {
		t.Fatalf("list is %+v", list)
	}
	if !s.Approved(backup) || s.Approved(Fingerprint{3}) || s.Approved(Fingerprint{}) {
		t.Error("trusts the wrong ones")
	}
	if err := s.Withdraw(backup); err != nil {
		t.Fatal(err)
	}
	if open(t, dir).Approved(backup) {
		t.Error("a withdrawn peer is trusted after a restart")
	}
	if s.Withdraw(Fingerprint{9}) != nil {
		t.Error("withdrawing an unknown peer failed")
	}
}

func TestApproveRefuses(t *testing.T) {
	s := open(t, t.TempDir())
	for _, tt := range []struct {
		name       string
		fp         Fingerprint
		role, peer string
		want       string
	}{
		{"no fingerprint", Fingerprint{}, "backup", "", "empty"},
		{"its own fingerprint", s.Fingerprint(), "backup", "", "own fingerprint"},
		{"an unknown role", Fingerprint{1}, "leader", "", "master, backup, arbiter"},
		{"a name without end", Fingerprint{1}, "backup", strings.Repeat("x", 300), "256"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if err := s.Approve(PeerRecord{Fingerprint: tt.fp, Role: tt.role, Name: tt.peer}); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want one with %q", err, tt.want)
			}
		})
	}
	for i := range maxPeers {
		if err := s.Approve(PeerRecord{Fingerprint: Fingerprint{1, byte(i)}, Role: "backup", Name: ""}); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Approve(PeerRecord{Fingerprint: Fingerprint{2}, Role: "backup", Name: ""}); err == nil {
		t.Error("the list of peers has no bound")
	}
}

func TestFailedWriteChangesNothing(t *testing.T) {
	s := open(t, t.TempDir())
	if err := os.RemoveAll(s.dir); err != nil { // from here on no write succeeds
		t.Fatal(err)
	}
	if s.Approve(PeerRecord{Fingerprint: Fingerprint{1}, Role: "backup", Name: ""}) == nil {
		t.Fatal("approve succeeded without a disk")
	}
	if s.Approved(Fingerprint{1}) {
		t.Error("a peer is trusted that is not on disk")
	}
}

func TestPoolCertificate(t *testing.T) {
	s := open(t, t.TempDir())
	if _, err := s.PoolCertificate(); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("without a pool: %v, want fs.ErrNotExist", err)
	}
	vip := netip.MustParseAddr("10.0.0.50")
	certPEM, keyPEM, err := NewPoolCertificate(vip, "10.0.0.1", "pool.example")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.SavePoolCertificate(certPEM, keyPEM); err != nil {
		t.Fatal(err)
	}
	c, err := open(t, s.dir).PoolCertificate()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"10.0.0.50", "10.0.0.1", "pool.example"} {
		if err := c.Leaf.VerifyHostname(name); err != nil {
			t.Error(err)
		}
	}
	gotCert, gotKey, err := s.PoolCertificatePEM()
	if err != nil || string(gotCert) != string(certPEM) || string(gotKey) != string(keyPEM) {
		t.Errorf("the pair came back changed (%v)", err)
	}
	other, _, err := NewPoolCertificate(vip)
	if err != nil {
		t.Fatal(err)
	}
	if s.SavePoolCertificate(other, keyPEM) == nil {
		t.Error("halves of two pairs were saved")
	}
	if _, _, err := NewPoolCertificate(netip.Addr{}); err == nil {
		t.Error("a certificate was made without a virtual IP")
	}
	if err := s.RemovePoolCertificate(); err != nil {
		t.Fatal(err)
	}
	if err := s.RemovePoolCertificate(); err != nil {
		t.Errorf("removing twice: %v", err)
	}
}

func TestWebCertificateFollowsTheAddresses(t *testing.T) {
	s := open(t, t.TempDir())
	first, err := s.WebCertificate("127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	same, err := s.WebCertificate("127.0.0.1")
	if err != nil || !same.Leaf.Equal(first.Leaf) {
		t.Errorf("a certificate that still fits was replaced (%v)", err)
	}
	moved, err := s.WebCertificate("127.0.0.1", "10.0.0.1")
	if err != nil || moved.Leaf.VerifyHostname("10.0.0.1") != nil {
		t.Errorf("the new address is not covered (%v)", err)
	}
	c := clock{now: first.Leaf.NotAfter.Add(-time.Hour)}
	c.use(s)
	renewed, err := s.WebCertificate("127.0.0.1", "10.0.0.1")
	if err != nil || renewed.Leaf.Equal(moved.Leaf) {
		t.Errorf("a certificate near its end was kept (%v)", err)
	}
}
