package browser_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"redundancypool/manager/trust"
)

// textOf is the text of an element.
func (p *page) textOf(selector string) string {
	p.t.Helper()
	var text string
	p.do(chromedp.Text(selector, &text, chromedp.ByQuery))
	return strings.TrimSpace(text)
}

// approves presses the button of the contact that has this fingerprint.
func (p *page) approves(fingerprint string) {
	p.t.Helper()
	p.sees(fingerprint)
	p.pressNear(fingerprint, "/trust/approve")
}

// pressNear presses the button of a form in the contact that shows a text, and waits for the page
// after it. It is found and pressed in one go: a live update may replace it at any moment.
func (p *page) pressNear(text, action string) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, 30*time.Second)
	defer cancel()
	if _, err := chromedp.RunResponse(ctx, chromedp.Evaluate(`[...document.querySelectorAll("section.contact")]
		.find(s => s.innerText.includes("`+text+`")).querySelector("form[action='`+action+`'] button").click()`, nil)); err != nil {
		p.t.Fatalf("press %s beside %s at %s: %v; the page has:\n%s", action, text, p.base, err, p.text())
	}
}

// fingerprint is an Arbiter's own.
func (n *node) fingerprint() string {
	n.t.Helper()
	var c struct{ Fingerprint trust.Fingerprint }
	if err := json.Unmarshal([]byte(n.told("connections", "--json")), &c); err != nil {
		n.t.Fatal(err)
	}
	return c.Fingerprint.String()
}

// shownBy is the certificate that a node shows to a new connection.
func shownBy(t *testing.T, n *node) *x509.Certificate {
	t.Helper()
	c, err := tls.DialWithDialer(&net.Dialer{Timeout: 10 * time.Second}, "tcp", n.address+":8443", &tls.Config{InsecureSkipVerify: true}) // it is looked at, not believed
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	return c.ConnectionState().PeerCertificates[0]
}

// ownPair makes a certificate as a person would bring it.
func ownPair(t *testing.T, addr string) (certFile, keyFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(7), Subject: pkix.Name{CommonName: "brought by a person"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(1, 0, 0),
		IPAddresses: []net.IP{net.ParseIP(addr)}}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	certFile, keyFile = filepath.Join(dir, "my.crt"), filepath.Join(dir, "my.key")
	for file, b := range map[string]*pem.Block{certFile: {Type: "CERTIFICATE", Bytes: der}, keyFile: {Type: "PRIVATE KEY", Bytes: raw}} {
		if err := os.WriteFile(file, pem.EncodeToMemory(b), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return certFile, keyFile
}

// A pool is formed without a token: fingerprints are compared and approved on the pages of both
// Managers. What is wrong with a partner's certificate or state stands beside its field before.
func TestTrustThroughThePages(t *testing.T) {
	if why != "" {
		t.Skip(why)
	}
	back, master, third := start(t, "b"), start(t, "m"), start(t, "a")
	b, m := open(t, back), open(t, master)
	b.first(back)
	m.first(master)

	// Approved once, then that machine is installed anew.
	m.visit("/trust")
	m.fill("address", "10.79.0.2", "role", "backup")
	m.press("form[action='/trust/contact'] button")
	m.sees("10.79.0.2:8099 answers", "Not trusted (Faulted)")
	b.visit("/trust")
	before := b.textOf("#own-fingerprint")
	m.shot("trust-contact")
	m.do(chromedp.SetValue("section.contact select", "backup", chromedp.ByQuery))
	m.approves(before)
	m.sees("fingerprint compared")
	back.stop()
	if err := os.RemoveAll(back.dir); err != nil {
		t.Fatal(err)
	}
	back.log = &journal{}
	back.run()
	b.first(back)
	b.asBackup("10.79.0.50")
	b.agree()
	b.sees("Forming the pool", "Trust")
	fresh := b.textOf("#own-fingerprint")

	review := func() {
		m.visit("/settings")
		m.do(chromedp.Click("#mode-master", chromedp.ByQuery))
		m.fill("master-local-address", "10.79.0.1", "master-peer-address", "10.79.0.2", "master-arbiter-address", "10.79.0.3", "master-vip", "10.79.0.50")
		m.press("button[value=save]")
	}
	asMaster := func() {
		review()
		m.sees("What will happen", "waits until its fingerprint is approved here")
		m.press("button[value=store]")
	}
	asMaster()
	m.beside("master-peer-address", "The certificate of the backup at 10.79.0.2:8099 changed")
	m.beside("master-peer-address", before)
	m.beside("master-peer-address", fresh)
	m.shot("settings-refused-certificate")
	m.visit("/trust")
	m.sees("Certificate changed", "Approved until now", before, fresh)
	m.shot("trust-changed")
	m.approves(fresh)
	m.sees("Somebody else may answer at its address")
	m.press("button.danger")
	m.sees("instead of the key before")

	// An Arbiter that has state of another pool; reset cures it.
	third.stop()
	stray := filepath.Join(third.dir, "pools", strings.Repeat("cd", 16))
	if err := os.MkdirAll(stray, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(stray, "raft.db"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	third.run()
	third.await("answers", func() bool { return third.says("status") })
	review()
	m.beside("master-arbiter-address", "not newly installed")
	m.beside("master-arbiter-address", "arbiter reset")
	m.shot("settings-used-arbiter")
	if got := master.told("status", "--json"); !strings.Contains(got, `"role":"standalone"`) {
		t.Errorf("after refused tries: %s", got)
	}
	third.stop()
	third.told("reset", "--yes")
	third.run()
	third.await("answers", func() bool { return third.says("status") })

	asMaster()
	m.sees("Forming the pool", "aiting for approval", " left")
	own := m.textOf("#own-fingerprint")
	ofThird := third.fingerprint()
	m.sees(ofThird)
	m.shot("waiting-approval-master")
	b.sees(own)
	b.shot("waiting-approval-backup")
	b.pressNear(own, "/trust/reject")
	b.sees("Rejected")
	m.sees("was rejected there")
	b.approves(own)
	b.sees("No node waits for approval")
	m.sees("aiting for approval on this Manager and on the arbiter")
	m.visit("/trust")
	m.approves(ofThird)
	third.told("approve", own)
	m.sees("Protected")
	m.visit("/trust")
	m.sees("the running pool needs it", "fingerprint compared")
	m.shot("trust-in-pool")

	// The certificate that browsers see is another matter.
	certFile, keyFile := ownPair(t, "10.79.0.1")
	m.visit("/settings")
	m.sees("Made by this node itself")
	m.do(chromedp.Click("#certificate ~ details:last-of-type summary", chromedp.ByQuery))
	m.do(chromedp.SetUploadFiles("#cert-file", []string{certFile}, chromedp.ByQuery), chromedp.SetUploadFiles("#key-file", []string{certFile}, chromedp.ByQuery))
	m.press("form[action='/settings/certificate'] button")
	m.beside("key-file", "No private key in PEM form")
	m.do(chromedp.SetUploadFiles("#cert-file", []string{certFile}, chromedp.ByQuery), chromedp.SetUploadFiles("#key-file", []string{keyFile}, chromedp.ByQuery))
	m.press("form[action='/settings/certificate'] button")
	m.sees("Installed by a person", "CN=brought by a person")
	m.shot("settings-certificate")
	if got := shownBy(t, master).Subject.CommonName; got != "brought by a person" {
		t.Errorf("a new connection sees %q", got)
	}
	if got := master.told("status", "--json"); !strings.Contains(got, `"health":"protected"`) {
		t.Errorf("after the change of the page's certificate: %s", got)
	}
	m.press("form[action='/settings/certificate/reset'] button")
	m.press("button.danger")
	m.sees("Made by this node itself")
}
