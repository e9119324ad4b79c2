package main

import (
	"context"

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
