package trial

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"

	"redundancypool/deploy/lab"
)

// ErrNotInstalled is returned by Mosquitto where the program mosquitto_pub is missing.
var ErrNotInstalled = errors.New("mosquitto_pub is not installed (package mosquitto-clients)")

// Mosquitto adds a unit and publishes as it with mosquitto_pub, a client that nobody here wrote:
// QoS 1 over TLS with the profile's credentials, to the VIP, where it must succeed, and to the
// Manager that is Online, where it must be refused. It returns what it did, line by line.
//
// Errors: ErrNotInstalled; otherwise what went another way than it must.
func (p *Pool) Mosquitto(ctx context.Context) ([]string, error) {
	prog, err := exec.LookPath("mosquitto_pub")
	if err != nil {
		return nil, ErrNotInstalled
	}
	path, err := p.AddUnit(ctx, "mosquitto")
	if err != nil {
		return nil, err
	}
	pr, err := readProfile(path)
	if err != nil {
		return nil, err
	}
	ca := filepath.Join(filepath.Dir(path), "ca.pem")
	if err := os.WriteFile(ca, []byte(pr.CA), 0o600); err != nil {
		return nil, fmt.Errorf("keep the CA for mosquitto_pub: %w", err)
	}
	client, err := p.lab.Host("client")
	if err != nil {
		return nil, err
	}
	primary, _, err := p.Primary(ctx)
	if err != nil {
		return nil, err
	}
	online, err := p.lab.Host(Other(primary))
	if err != nil {
		return nil, err
	}
	publish := func(to string, extra ...string) error {
		ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
		defer cancel()
		message := fmt.Sprintf(`{"timestamp": %d, "seq": 1, "node": "shell", "group": "g1", "values": {"temperature": 21.5}}`, time.Now().UnixMilli())
		args := append([]string{"-h", to, "-p", strconv.Itoa(pr.Port), "--cafile", ca, "-q", "1", "-V", "mqttv311",
			"-i", pr.Username, "-u", pr.Username, "-P", pr.Password,
			"-t", "fieldunit/" + pr.Username + "/telemetry", "-m", message}, extra...)
		_, err := client.Output(ctx, lab.Command{Name: "mosquitto_pub", Path: prog, Args: args})
		return err
	}
	var lines []string
	if err := publish(pr.Host); err != nil {
		return lines, fmt.Errorf("publish to the VIP %s: %w", pr.Host, err)
	}
	lines = append(lines, fmt.Sprintf("mosquitto_pub to the VIP %s: QoS 1 acknowledged", pr.Host))
	// --insecure: its certificate need not carry its own address for a refusal to count.
	err = publish(online.Addr().String(), "--insecure")
	if err == nil {
		return lines, fmt.Errorf("%s is Online and let mosquitto_pub publish", online.Name())
	}
	lines = append(lines, fmt.Sprintf("mosquitto_pub to the %s, which is Online: refused (%v)", online.Name(), refusal(err)))
	return lines, p.stored(ctx, primary, pr.Username)
}

func refusal(err error) string {
	var exit *lab.ExitError
	if errors.As(err, &exit) {
		return exit.Line
	}
	return err.Error()
}

// stored checks that the unit's one record is in the Primary's database.
func (p *Pool) stored(ctx context.Context, host, unit string) error {
	out, err := p.command(ctx, host, "query", fmt.Sprintf("SELECT count(*) FROM sample WHERE unit = '%s'", unit))
	if err != nil {
		return err
	}
	n, err := lastNumber(string(out))
	if err != nil {
		return err
	}
	if n != 1 {
		return fmt.Errorf("mosquitto_pub's record is stored %d times, not once", n)
	}
	return nil
}

// page is where a Manager's HTTPS page stands.
func page(a netip.Addr) string { return netip.AddrPortFrom(a, 8443).String() }
