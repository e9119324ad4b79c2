package control

import (
	"context"
	"reflect"
	"slices"
	"testing"
)

var someConnections = Connections{Fingerprint: "OWN", Approved: []Approval{{Fingerprint: "F1", Role: "backup"}}, Contacts: []Contact{{Fingerprint: "F2", Instead: "F1"}}}

func (f *fakeManager) Connections(context.Context) (Connections, error) {
	return someConnections, f.err
}
func (f *fakeManager) Contact(_ context.Context, address, role string) (Done, error) {
	return f.tell("contact %s %s", address, role)
}
func (f *fakeManager) Approve(_ context.Context, fingerprint, role string, yes bool) (Done, error) {
	return f.tell("approve %s %s %t", fingerprint, role, yes)
}
func (f *fakeManager) Reject(_ context.Context, fingerprint string) (Done, error) {
	return f.tell("reject %s", fingerprint)
}
func (f *fakeManager) Withdraw(_ context.Context, fingerprint string, yes bool) (Done, error) {
	return f.tell("withdraw %s %t", fingerprint, yes)
}

func TestOperationsOfTrustArrive(t *testing.T) {
	dir, m := t.TempDir(), &fakeManager{}
	serve(t, dir, ManagerOps(m))
	r, ctx := NewRemote(dir), patience(t)
	if got, err := r.Certificate(ctx); err != nil || !got.Installed {
		t.Errorf("certificate %+v, %v", got, err)
	}
	if got, err := r.Connections(ctx); err != nil || !reflect.DeepEqual(got, someConnections) {
		t.Errorf("connections %+v, %v", got, err)
	}
	for _, do := range []func() (Done, error){
		func() (Done, error) { return r.Contact(ctx, "10.0.0.2", "backup") },
		func() (Done, error) { return r.Approve(ctx, "AB", "backup", true) },
		func() (Done, error) { return r.Reject(ctx, "AB") },
		func() (Done, error) { return r.Withdraw(ctx, "AB", true) },
		func() (Done, error) { return r.InstallCertificate(ctx, "C", "K") },
		func() (Done, error) { return r.RenewCertificate(ctx) },
		func() (Done, error) { return r.ResetCertificate(ctx, true) },
		func() (Done, error) { return r.EndSessions(ctx, "anna") },
	} {
		if d, err := do(); err != nil || d.Message != "done" {
			t.Errorf("%+v, %v", d, err)
		}
	}
	if want := []string{"contact 10.0.0.2 backup", "approve AB backup true", "reject AB", "withdraw AB true", "install C K", "renew", "reset true", "logout anna"}; !slices.Equal(m.told, want) {
		t.Errorf("told %q", m.told)
	}
}

func (f *fakeManager) Certificate(context.Context) (CertificateReport, error) {
	return CertificateReport{Installed: true}, f.err
}
func (f *fakeManager) InstallCertificate(_ context.Context, certificate, key string) (Done, error) {
	return f.tell("install %s %s", certificate, key)
}
func (f *fakeManager) RenewCertificate(context.Context) (Done, error) { return f.tell("renew") }
func (f *fakeManager) ResetCertificate(_ context.Context, yes bool) (Done, error) {
	return f.tell("reset %t", yes)
}

func (f *fakeManager) EndSessions(_ context.Context, name string) (Done, error) {
	return f.tell("logout %s", name)
}
