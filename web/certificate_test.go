package web

import (
	"bytes"
	"io"
	"mime/multipart"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
)

func someCertificate() CertificateReport {
	info := CertificateInfo{Subject: "CN=cell <1>", Issuer: "CN=site authority", Names: []string{"cell-1.example", "10.0.0.1"}, NotBefore: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC),
		NotAfter: time.Date(2027, 2, 3, 0, 0, 0, 0, time.UTC), Fingerprint: "AA:BB", PEM: "-----BEGIN CERTIFICATE-----\nPAGE\n"}
	vip := info
	vip.Subject, vip.PEM = "CN=pool", "-----BEGIN CERTIFICATE-----\nPOOL\n"
	return CertificateReport{Installed: true, Page: info, VirtualIP: &vip, Warnings: []string{"it ends in 20 days"}}
}

// upload is a form with files.
func upload(t *testing.T, v *visitor, files map[string]string) func(*http.Request) {
	t.Helper()
	var b bytes.Buffer
	w := multipart.NewWriter(&b)
	if err := w.WriteField("_token", v.token); err != nil {
		t.Fatal(err)
	}
	for name, text := range files {
		f, err := w.CreateFormFile(name, name+".pem")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(f, text); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return func(r *http.Request) {
		form(v)(r)
		r.Header.Set("Content-Type", w.FormDataContentType())
		r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(b.Bytes())), int64(b.Len())
	}
}

func TestCertificateSection(t *testing.T) {
	d := &fakeDesk{cert: someCertificate()}
	s := site(t, normal(), d)
	v := loggedIn(t, s)
	_, text := v.ask("GET", "/settings", nil, nil)
	for _, want := range []string{"Installed by a person", "CN=cell &lt;1&gt;", "CN=site authority", "cell-1.example, 10.0.0.1", "2026-01-01 to 2027-02-03", "AA:BB", "It ends in 20 days.", "Certificate of the virtual IP", "CN=pool", "Return to this node"} {
		if !strings.Contains(text, want) {
			t.Errorf("the section lacks %q", want)
		}
	}
	for file, want := range map[string]string{"node.pem": "PAGE", "virtual-ip.pem": "POOL"} {
		if code, text := v.ask("GET", "/settings/certificate/"+file, nil, nil); code != 200 || !strings.Contains(text, want) {
			t.Errorf("download of %s: %d %s", file, code, text)
		}
	}
	if code, _ := v.ask("GET", "/settings/certificate/node.key", nil, nil); code != http.StatusNotFound {
		t.Errorf("the key answers %d", code)
	}
	post := func(files map[string]string) (int, string) {
		resp := v.keep(ask(s, there, "POST", "/settings/certificate", upload(t, v, files)))
		return resp.StatusCode, body(t, resp)
	}
	if code, _ := post(map[string]string{"certificate": "C", "key": "K"}); code != 303 || !slices.Equal(d.told, []string{"install C K"}) {
		t.Errorf("install: %d, told %q", code, d.told)
	}
	d.refusal = &Problem{Code: "invalid", Message: "the certificate cannot be used", Fields: []FieldProblem{{"key", "mismatch", "the key does not belong to it", "give the right one"}}}
	code, text := post(map[string]string{"certificate": "C", "key": "TOPSECRET"})
	if code != 422 || !strings.Contains(text, "The key does not belong to it. Give the right one.") || !strings.Contains(text, "nothing was changed") {
		t.Errorf("a wrong pair: %d\n%s", code, text)
	}
	if strings.Contains(text, "TOPSECRET") {
		t.Error("the page shows the key that was sent")
	}
	d.refusal = nil
	d.told, d.asked = nil, []Consequence{{"browsers will warn", ""}}
	if code, text := v.post("/settings/certificate/reset"); code != 200 || !strings.Contains(text, "rowsers will warn") || len(d.told) > 0 {
		t.Errorf("reset without an answer: %d, told %q", code, d.told)
	}
	if code, _ := v.post("/settings/certificate/reset", "yes", "1"); code != 303 || !slices.Equal(d.told, []string{"reset"}) {
		t.Errorf("reset: %d, told %q", code, d.told)
	}
	d.told = nil
	if code, _ := v.post("/settings/certificate/renew"); code != 303 || !slices.Equal(d.told, []string{"renew"}) {
		t.Errorf("renew: %d, told %q", code, d.told)
	}
	if code, _ := v.ask("POST", "/settings/certificate", nil, upload(t, &visitor{token: "guess"}, map[string]string{"certificate": "C"})); code != http.StatusForbidden {
		t.Errorf("without the form's token: %d", code)
	}
}

func TestCallsAboutTheCertificate(t *testing.T) {
	d := &fakeDesk{cert: someCertificate()}
	s := site(t, normal(), d)
	call := func(method, path, text string) (int, string) {
		resp := ask(s, there, method, "/api/v1/certificate"+path, jsonBody(text))
		return resp.StatusCode, body(t, resp)
	}
	code, text := call("GET", "", "")
	if code != 200 {
		t.Fatalf("%d %s", code, text)
	}
	checkDocument(t, s, "Certificate", text)
	for _, tt := range []struct{ path, text, want string }{
		{"", `{"certificate":"C","key":"K"}`, "install C K is done"}, {"/renew", `{}`, "renew is done"}, {"/reset", `{"yes":true}`, "reset is done"},
	} {
		if code, text := call("POST", tt.path, tt.text); code != 200 || !strings.Contains(text, tt.want) {
			t.Errorf("%s: %d %s", tt.path, code, text)
		}
	}
	d.refusal = &Problem{Code: "invalid", Message: "no", Fields: []FieldProblem{{"key", "mismatch", "wrong", "right"}}}
	if code, text := call("POST", "", `{"certificate":"C","key":"TOPSECRET"}`); code != 422 || !strings.Contains(text, "mismatch") || strings.Contains(text, "TOPSECRET") {
		t.Errorf("a wrong pair: %d %s", code, text)
	}
}
