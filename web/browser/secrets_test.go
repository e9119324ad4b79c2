package browser_test

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestNoSecretIsShown asks for every page and reading call with a login, and looks for what must
// not be there: the password, its hash, private keys, the key of the sessions. The log neither.
func TestNoSecretIsShown(t *testing.T) {
	if why != "" {
		t.Skip(why)
	}
	n := start(t, "m")
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Jar: jar, Timeout: 20 * time.Second, Transport: &http.Transport{
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}} // the node's certificate is its own; this is no test of it
	defer client.CloseIdleConnections()
	base := "https://" + n.address + ":8443"
	resp, err := client.PostForm(base+"/setup", url.Values{"code": {n.code()}, "name": {"admin"}, "password": {password}, "again": {password}})
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.Request.URL.Path != "/" {
		t.Fatalf("creating the administrator leads to %s, %s", resp.Request.URL, resp.Status)
	}
	out, err := exec.Command(program("manager"), "unit", "add", "press-7", "--data", n.dir).Output()
	if err != nil {
		t.Fatal(err)
	}
	var profile struct{ Password string }
	if err := json.Unmarshal(out, &profile); err != nil || profile.Password == "" {
		t.Fatalf("profile %s: %v", out, err)
	}
	copied := filepath.Join(t.TempDir(), "copy.db")
	n.told("database", "save", copied)

	secrets := map[string][]byte{"the password": []byte(password), "a password's hash": []byte("$argon2id$"), "a private key": []byte("PRIVATE KEY")}
	for _, name := range []string{"node.key", "web.key", "session.key"} {
		raw, err := os.ReadFile(filepath.Join(n.dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if b, _ := pem.Decode(raw); b != nil {
			raw = b.Bytes
			secrets[name+" in base64"] = []byte(base64.StdEncoding.EncodeToString(raw)[:60])
		}
		secrets[name] = raw
	}
	secrets["a unit's password"] = []byte(profile.Password)
	hash := sha256.Sum256([]byte(profile.Password))
	secrets["the hash of a unit's password"] = hash[:]
	saved, err := os.ReadFile(copied)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(saved, []byte("press-7")) || !bytes.Contains(saved, []byte("SQLite format 3")) {
		t.Error("the saved database has not what was stored")
	}
	for what, secret := range secrets {
		if bytes.Contains(saved, secret) {
			t.Errorf("the saved database has %s", what)
		}
	}
	var all int
	for _, path := range []string{"/", "/shell", "/settings", "/settings?again", "/units", "/database", "/trust", "/about", "/account", "/login", "/setup", "/waiting",
		"/api/v1/redundancy", "/api/v1/redundancy/waiting", "/api/v1/redundancy/worst", "/api/v1/redundancy/connections", "/api/v1/certificate", "/settings/certificate/node.pem", "/api/v1/logs", "/logs", "/api/v1/logs/export?format=json", "/notifications", "/api/v1/notifications", "/api/v1/openapi.json", "/metrics", "/nowhere"} {
		resp, err := client.Get(base + path)
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil {
			t.Fatal(err)
		}
		if resp.StatusCode == http.StatusOK {
			all++
		}
		for what, secret := range secrets {
			if bytes.Contains(text, secret) {
				t.Errorf("%s shows %s", path, what)
			}
		}
	}
	if all < 14 {
		t.Errorf("only %d pages could be read", all)
	}
	for what, secret := range secrets {
		if strings.Contains(n.log.String(), string(secret)) {
			t.Errorf("the log shows %s", what)
		}
	}
}
