package lab_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"redundancypool/deploy/lab"
)

func TestLinkIsCutInSilenceOrWithItsCarrier(t *testing.T) {
	l := openLab(t, func(c *lab.Config) { c.SecondPath = true })
	master, client := host(t, l, "master"), host(t, l, "client")
	startEcho(t, master, client)
	eth0 := link(t, master, 0)

	must(t, eth0.Cut())
	if !carrier(t, master, "eth0") {
		t.Error("a silent cut took the carrier away")
	}
	if err := echo(client, "10.0.0.1:7"); !isTimeout(err) {
		t.Errorf("a cut link: got %v, want silence", err)
	}
	must(t, echo(client, "10.0.1.1:7")) // the second path stands
	must(t, eth0.Heal())
	must(t, echo(client, "10.0.0.1:7"))

	must(t, eth0.Unplug())
	eventually(t, "carrier goes", func() error {
		if carrier(t, master, "eth0") {
			return errors.New("carrier still there")
		}
		return nil
	})
	must(t, eth0.Heal())
	eventually(t, "link is back", func() error { return echo(client, "10.0.0.1:7") })
}

func TestPartedHostsSeeEverybodyElse(t *testing.T) {
	l := openLab(t, nil)
	master, backup, client := host(t, l, "master"), host(t, l, "backup"), host(t, l, "client")
	startEcho(t, master, client)
	must(t, l.Part("master", "backup"))
	if err := echo(backup, "10.0.0.1:7"); err == nil {
		t.Error("parted hosts reach each other")
	}
	must(t, echo(client, "10.0.0.1:7"))
	must(t, l.Join("master", "backup"))
	eventually(t, "joined again", func() error { return echo(backup, "10.0.0.1:7") })
	if err := l.Part("master", "nobody"); err == nil {
		t.Error("an unknown host was accepted")
	}
	if err := l.Block("master", "master"); err == nil {
		t.Error("a block from a host to itself was accepted")
	}
}

func TestBlockWorksOneWay(t *testing.T) {
	l := openLab(t, nil)
	master, backup := host(t, l, "master"), host(t, l, "backup")
	there, back := udp(t, master), udp(t, backup)
	send := func(from, to *net.UDPConn) error {
		drain(to)
		if _, err := from.WriteTo([]byte("x"), to.LocalAddr()); err != nil {
			return err
		}
		must(t, to.SetReadDeadline(time.Now().Add(300*time.Millisecond)))
		_, _, err := to.ReadFrom(make([]byte, 8))
		return err
	}
	// Both neighbour entries exist before the block: ARP needs both ways.
	eventually(t, "datagram there", func() error { return send(there, back) })
	eventually(t, "datagram back", func() error { return send(back, there) })
	must(t, l.Block("master", "backup"))
	if err := send(there, back); err == nil {
		t.Error("a datagram passed the blocked way")
	}
	eventually(t, "the other way stays open", func() error { return send(back, there) })
	must(t, l.HealAll())
	eventually(t, "healed", func() error { return send(there, back) })
}

func udp(t *testing.T, h *lab.Host) *net.UDPConn {
	t.Helper()
	var c *net.UDPConn
	must(t, h.Do(func() error {
		var err error
		c, err = net.ListenUDP("udp4", &net.UDPAddr{IP: h.Addr().AsSlice()})
		return err
	}))
	t.Cleanup(func() { c.Close() })
	return c
}

func drain(c *net.UDPConn) {
	_ = c.SetReadDeadline(time.Now().Add(time.Millisecond))
	for {
		if _, _, err := c.ReadFrom(make([]byte, 8)); err != nil {
			return
		}
	}
}

func TestRelayDelaysDropsAndKeepsBytes(t *testing.T) {
	l := openLab(t, nil)
	master, client := host(t, l, "master"), host(t, l, "client")
	startEcho(t, master, client)
	eth0 := link(t, master, 0)

	must(t, eth0.Impair(lab.Impairment{Delay: 30 * time.Millisecond}))
	conn, err := client.Dial(context.Background(), "tcp", "10.0.0.1:7")
	must(t, err)
	defer conn.Close()
	begin := time.Now()
	must(t, echoOn(conn))
	if d := time.Since(begin); d < 60*time.Millisecond {
		t.Errorf("there and back took %v through 30 ms each way", d)
	}

	// A megabyte in large segments: checksums and sizes left to the hardware must survive.
	must(t, eth0.Impair(lab.Impairment{Delay: time.Millisecond, Jitter: time.Millisecond, Loss: 0.01, Seed: 7}))
	data := []byte(strings.Repeat("0123456789abcdef", 1<<16))
	go func() { _, _ = conn.Write(data) }()
	must(t, conn.SetReadDeadline(time.Now().Add(60*time.Second)))
	back := make([]byte, len(data))
	_, err = io.ReadFull(conn, back)
	must(t, err)
	if sha256.Sum256(back) != sha256.Sum256(data) {
		t.Error("bytes changed on the way")
	}

	must(t, l.Part("master", "client")) // holds for the relay's port too
	if err := echo(client, "10.0.0.1:7"); err == nil {
		t.Error("parted hosts reach each other through the relay")
	}
	must(t, l.Join("master", "client"))

	must(t, eth0.Impair(lab.Impairment{Loss: 1}))
	if err := echo(client, "10.0.0.1:7"); err == nil {
		t.Error("a word passed a cable that drops everything")
	}
	must(t, eth0.Impair(lab.Impairment{}))
	eventually(t, "the plain cable is back", func() error { return echo(client, "10.0.0.1:7") })

	must(t, eth0.Impair(lab.Impairment{Delay: time.Millisecond}))
	_, err = master.PowerOff() // with a relay in place
	must(t, err)
	must(t, master.PowerOn())
	startEcho(t, master, client)
}

func TestObserverSeesWhoAnswers(t *testing.T) {
	l := openLab(t, nil)
	vip := lab.VirtualAddr
	one := netip.PrefixFrom(vip.Addr(), 32)
	o, err := l.Observe(vip.Addr(), 2*time.Millisecond, "master", "backup")
	must(t, err)
	w, err := l.WatchAddress(vip.Addr())
	must(t, err)
	defer w.Close()
	start := time.Now()
	seen := func(hosts ...string) func() error {
		return func() error {
			var got []string
			for _, s := range o.Spans(start) {
				got = append(got, s.Host)
			}
			if fmt.Sprint(got) != fmt.Sprint(hosts) {
				return fmt.Errorf("saw answers of %v, want %v", got, hosts)
			}
			return nil
		}
	}
	master, backup := host(t, l, "master"), host(t, l, "backup")
	must(t, master.AddAddr(one))
	eventually(t, "master answers", seen("master"))
	must(t, link(t, master, 0).Cut()) // still seen behind the cut
	must(t, master.DeleteAddr(vip.Addr()))
	gone := time.Now()
	eventually(t, "kernel reports the removal", func() error {
		if len(w.Holders()) != 0 {
			return errors.New("still held")
		}
		return nil
	})
	must(t, backup.AddAddr(one))
	eventually(t, "backup answers", seen("master", "backup"))
	if s := o.Spans(start)[0]; s.To.After(gone) {
		t.Errorf("an answer of the master %v after it lost the address", s.To.Sub(gone))
	}
	if both := lab.Overlaps(o.Spans(start)); len(both) != 0 {
		t.Errorf("two answerers were seen though there was one: %v", both)
	}
	must(t, master.AddAddr(one))
	eventually(t, "both answer", func() error {
		if len(lab.Overlaps(o.Spans(start))) == 0 {
			return errors.New("no overlap seen")
		}
		return nil
	})
	_, err = master.PowerOff()
	must(t, err)
	eventually(t, "only the backup holds it", func() error {
		if got := w.Holders(); len(got) != 1 || got[0] != "backup" {
			return fmt.Errorf("holders %v", got)
		}
		return nil
	})
	must(t, master.PowerOn())
	must(t, master.AddAddr(one))
	eventually(t, "the watch follows a new namespace", func() error {
		if got := w.Holders(); len(got) != 2 {
			return fmt.Errorf("holders %v", got)
		}
		return nil
	})
	must(t, o.Close())
}

func TestOverlapsOfSpans(t *testing.T) {
	at := func(ms int) time.Time { return time.UnixMilli(int64(ms)) }
	tests := []struct {
		name  string
		spans []lab.Span
		want  int
	}{
		{"one after the other: none", []lab.Span{{"a", at(0), at(10)}, {"b", at(11), at(20)}}, 0},
		{"the same host twice: none", []lab.Span{{"a", at(0), at(10)}, {"a", at(5), at(20)}}, 0},
		{"two hosts at once: one", []lab.Span{{"a", at(0), at(10)}, {"b", at(9), at(20)}}, 1},
		{"one inside the other: one", []lab.Span{{"a", at(0), at(10)}, {"b", at(2), at(3)}}, 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := lab.Overlaps(tt.spans); len(got) != tt.want {
				t.Errorf("got %v, want %d", got, tt.want)
			}
		})
	}
}

func TestDiskFillsHangsFailsAndIsRepaired(t *testing.T) {
	l := openLab(t, nil)
	h := host(t, l, "master")
	if err := h.FillDisk(); err == nil {
		t.Error("a disk fault without a disk of its own was accepted")
	}
	if err := h.FaultyDisk(1 << 20); err == nil {
		t.Error("a disk of 1 MiB was accepted")
	}
	must(t, h.FaultyDisk(32<<20))
	count := 0
	write := func() error {
		count++ // a new file each time: an old one would free its own blocks first
		return writeSync(filepath.Join(h.DiskPath(), fmt.Sprint("file", count)))
	}
	must(t, write())

	must(t, h.FillDisk())
	if err := write(); !errors.Is(err, unix.ENOSPC) {
		t.Errorf("full disk: got %v, want no space left", err)
	}
	must(t, h.FreeDisk())
	must(t, write())

	must(t, h.HangDisk())
	done := make(chan error, 1)
	go func() { done <- write() }()
	select {
	case err := <-done:
		t.Errorf("a write to a hung disk returned: %v", err)
	case <-time.After(100 * time.Millisecond):
	}
	must(t, h.ThawDisk())
	must(t, <-done)

	f, err := os.OpenFile(filepath.Join(h.DiskPath(), "open"), os.O_CREATE|os.O_WRONLY, 0o600)
	must(t, err)
	must(t, h.FailDisk())
	if err := write(); err == nil {
		t.Error("a failed disk took a write")
	}
	if err := h.RepairDisk(); err == nil {
		t.Error("a disk in use was repaired")
	}
	f.Close()
	must(t, h.RepairDisk())
	must(t, write())
}

func writeSync(path string) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	_, err = f.Write(make([]byte, 64<<10))
	return errors.Join(err, f.Sync(), f.Close())
}
