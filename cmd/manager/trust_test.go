package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"redundancypool/manager/control"
)

func (f *fakeManager) Connections(context.Context) (control.Connections, error) {
	return control.Connections{
		Fingerprint: "OWN",
		Approved:    []control.Approval{{Fingerprint: "F1", Role: "backup", Name: "cell 2", Address: "10.0.0.2:8099", How: "token", SinceMS: 1000}},
		Contacts: []control.Contact{
			{Fingerprint: "F2", Role: "arbiter", Name: "third", Address: "10.0.0.3:8099", FirstMS: 2000},
			{Fingerprint: "F3", Role: "backup", Name: "cell 2", Address: "10.0.0.2:8099", FirstMS: 2000, Instead: "F1"},
		},
	}, f.err
}
func (f *fakeManager) Contact(_ context.Context, address, role string) (control.Done, error) {
	return f.tell("contact %s %s", address, role)
}
func (f *fakeManager) Approve(_ context.Context, fingerprint, role string, yes bool) (control.Done, error) {
	return f.change(yes, "approve %s %q", fingerprint, role)
}
func (f *fakeManager) Reject(_ context.Context, fingerprint string) (control.Done, error) {
	return f.tell("reject %s", fingerprint)
}
func (f *fakeManager) Withdraw(_ context.Context, fingerprint string, yes bool) (control.Done, error) {
	return f.change(yes, "withdraw %s", fingerprint)
}

func (f *fakeManager) Certificate(context.Context) (control.CertificateReport, error) {
	return control.CertificateReport{Installed: true, Page: control.CertificateInfo{Subject: "CN=x", Names: []string{"10.0.0.1"}, PEM: "-----BEGIN"}, Warnings: []string{"it ends soon"}}, f.err
}
func (f *fakeManager) InstallCertificate(_ context.Context, certificate, key string) (control.Done, error) {
	return f.tell("install %s %s", certificate, key)
}
func (f *fakeManager) RenewCertificate(context.Context) (control.Done, error) {
	return f.tell("renew certificate")
}
func (f *fakeManager) ResetCertificate(_ context.Context, yes bool) (control.Done, error) {
	return f.change(yes, "reset certificate")
}
func (f *fakeManager) EndSessions(_ context.Context, name string) (control.Done, error) {
	return f.tell("user logout %s", name)
}

func TestCommandsAboutTrustArrive(t *testing.T) {
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "my.crt"), filepath.Join(dir, "my.key")
	for file, text := range map[string]string{cert: "CERT", key: "KEY"} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, tt := range []struct{ args, told string }{
		{"redundancy contact 10.0.0.2 --as backup", "contact 10.0.0.2 backup"},
		{"redundancy approve AB", `approve AB ""`},
		{"redundancy approve AB --as master --yes", `approve AB "master"`},
		{"redundancy reject AB", "reject AB"},
		{"redundancy withdraw AB --yes", "withdraw AB"},
		{"certificate install " + cert + " " + key, "install CERT KEY"},
		{"certificate install " + cert, "install CERT "},
		{"certificate renew", "renew certificate"},
		{"certificate reset --yes", "reset certificate"},
		{"user logout ann", "user logout ann"},
	} {
		m := &fakeManager{}
		code, _, errs := typed(m, "", false, append(strings.Fields(tt.args), "--data", dir)...)
		if code != exitDone || strings.Join(m.told, "\n") != tt.told {
			t.Errorf("%s: exit %d, told %q, want %q\n%s", tt.args, code, m.told, tt.told, errs)
		}
	}
	for _, args := range []string{"redundancy contact 10.0.0.2 --data x", "redundancy approve --data x", "redundancy contact 10.0.0.2 --as leader --data x"} {
		if code, _, _ := typed(&fakeManager{}, "", false, strings.Fields(args)...); code != exitUsage {
			t.Errorf("%s: exit %d", args, code)
		}
	}
	m := &fakeManager{confirm: []control.Question{{Text: "Somebody else may answer there."}}}
	if code, _, errs := typed(m, "", false, "redundancy", "approve", "AB", "--data", dir); code != exitRefused || !strings.Contains(errs, "Somebody else may answer there") || len(m.told) > 0 {
		t.Errorf("another key without an answer: exit %d, told %q, %s", code, m.told, errs)
	}
}

func TestListsOfTrust(t *testing.T) {
	_, out, _ := typed(&fakeManager{}, "", false, "redundancy", "connections", "--data", "x")
	for _, want := range []string{"This node\n  OWN\n", "waits", "third", "  F2\n", "CHANGED, approved is F1", "  F3\n", "approved", "cell 2", "by token", "  F1\n"} {
		if !strings.Contains(out, want) {
			t.Errorf("the list lacks %q:\n%s", want, out)
		}
	}
	if _, out, _ := typed(&fakeManager{}, "", false, "redundancy", "connections", "--json", "--data", "x"); !strings.HasPrefix(out, `{"fingerprint":"OWN","approved":[{`) {
		t.Errorf("as JSON: %s", out)
	}
	_, out, _ = typed(&fakeManager{}, "", false, "certificate", "show", "--data", "x")
	for _, want := range []string{"installed by a person", "CN=x", "10.0.0.1", "To know: it ends soon"} {
		if !strings.Contains(out, want) {
			t.Errorf("the certificate lacks %q:\n%s", want, out)
		}
	}
	if _, out, _ := typed(&fakeManager{}, "", false, "certificate", "show", "--pem", "--data", "x"); out != "-----BEGIN" {
		t.Errorf("as PEM: %q", out)
	}
}
