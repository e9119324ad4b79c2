package broker

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"redundancypool/fieldunit"
)

// grouped commits all that waits at once, each commit taking 3 ms: the shape of a replicated
// write.
type grouped struct {
	in chan func(error)
}

func newGrouped(ctx context.Context) *grouped {
	g := &grouped{in: make(chan func(error), 65536)}
	go func() {
		var batch []func(error)
		for {
			select {
			case <-ctx.Done():
				return
			case c := <-g.in:
				batch = append(batch[:0], c)
			}
			for more := true; more; {
				select {
				case c := <-g.in:
					batch = append(batch, c)
				default:
					more = false
				}
			}
			time.Sleep(3 * time.Millisecond)
			for _, c := range batch {
				c(nil)
			}
		}
	}()
	return g
}

func (g *grouped) Record(ctx context.Context, t []fieldunit.Telemetry) error {
	c := make(chan error, 1)
	g.Submit(ctx, t, func(err error) { c <- err })
	return <-c
}

func (g *grouped) Submit(ctx context.Context, _ []fieldunit.Telemetry, done func(error)) {
	select {
	case g.in <- done:
	case <-ctx.Done():
		done(ctx.Err())
	}
}

// blocking hides Submit.
type blocking struct{ Recorder }

// BenchmarkAcknowledged measures acknowledged messages per second with 100 units, each with a full window.
func BenchmarkAcknowledged(b *testing.B) {
	cert, pem := certificate(b)
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(pem))
	for _, way := range []string{"Record", "Submit"} {
		for _, secure := range []bool{false, true} {
			const window = 64
			b.Run(fmt.Sprintf("units=100/window=%d/tls=%v/%s", window, secure, way), func(b *testing.B) {
				ctx, cancel := context.WithCancel(context.Background())
				defer cancel()
				br := open(b, func(c *Config) {
					c.Recorder, c.Window = newGrouped(ctx), window
					if way == "Record" {
						c.Recorder = blocking{c.Recorder}
					}
					c.TLS = &tls.Config{Certificates: []tls.Certificate{cert}}
					c.Endpoints = []Endpoint{{Address: "127.0.0.1:0", Plain: !secure}}
				})
				const units = 100
				each := b.N/units + 1
				var wg sync.WaitGroup
				b.ResetTimer()
				for u := range units {
					wg.Go(func() { flood(b, br, fmt.Sprintf("u%d", u), each, window, secure, roots) })
				}
				wg.Wait()
				b.ReportMetric(float64(units*each)/b.Elapsed().Seconds(), "acked/s")
			})
		}
	}
}

func flood(b *testing.B, br *Broker, unit string, n, window int, secure bool, roots *x509.CertPool) {
	c, err := net.Dial("tcp", br.Addrs()[0].String())
	if err != nil {
		b.Error(err)
		return
	}
	defer func() { _ = c.Close() }()
	if secure {
		c = tls.Client(c, &tls.Config{RootCAs: roots, ServerName: "127.0.0.1"})
	}
	r, w := bufio.NewReader(c), bufio.NewWriter(c)
	_, _ = w.Write(connectBytes(4, unit, unit, "x"+unit, 60))
	_ = w.Flush()
	if _, err := io.ReadFull(r, make([]byte, 4)); err != nil {
		b.Error(err)
		return
	}
	places := make(chan struct{}, window)
	go func() {
		for i := range n {
			places <- struct{}{}
			_, _ = w.Write(publishBytes(4, uint16(i%65535+1), 1, "fieldunit/"+unit+"/telemetry", `{"timestamp":1700000000000,"seq":`+strconv.Itoa(i)+`,"node":"plc1","group":"g1","values":{"temperature":21.5}}`))
			if len(places) == cap(places) || i == n-1 {
				_ = w.Flush()
			}
		}
	}()
	var ack [4]byte
	for range n {
		if _, err := io.ReadFull(r, ack[:]); err != nil {
			b.Error(err)
			return
		}
		<-places
	}
}

// BenchmarkClose measures how long it takes to cut many sessions; set UNITS for another number.
func BenchmarkClose(b *testing.B) {
	units := 1000
	if n, err := strconv.Atoi(os.Getenv("UNITS")); err == nil {
		units = n
	}
	cert, _ := certificate(b)
	for _, secure := range []bool{false, true} {
		b.Run(fmt.Sprintf("units=%d/tls=%v", units, secure), func(b *testing.B) {
			var total time.Duration
			for b.Loop() {
				br := open(b, func(c *Config) {
					c.TLS = &tls.Config{Certificates: []tls.Certificate{cert}}
					c.Endpoints = []Endpoint{{Address: "127.0.0.1:0", Plain: !secure}}
				})
				conns := make([]net.Conn, units)
				for i := range conns {
					d := dial(b, br, 4+byte(i%2), fmt.Sprintf("u%d", i))
					conns[i] = d.c
					if secure {
						d.c = tls.Client(d.c, &tls.Config{InsecureSkipVerify: true})
						d.r = bufio.NewReader(d.c)
					}
					if code := d.connect("x" + d.unit); code != 0 {
						b.Fatalf("CONNACK %#x", code)
					}
				}
				start := time.Now()
				if err := br.Close(); err != nil {
					b.Fatal(err)
				}
				total += time.Since(start)
				for _, c := range conns {
					_ = c.Close()
				}
			}
			b.ReportMetric(float64(total.Milliseconds())/float64(b.N), "ms/close")
		})
	}
}
