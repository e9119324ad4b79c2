package vip

import (
	"encoding/binary"
	"encoding/hex"
	"net"
	"net/netip"
	"testing"

	"github.com/mdlayher/ndp"
	"golang.org/x/sys/unix"
)

var (
	ourMAC = net.HardwareAddr{2, 0, 0, 0, 0, 1}
	ourVIP = netip.MustParseAddr("10.0.0.50")
)

func TestARPFrames(t *testing.T) {
	announcements, err := arpAnnouncements(ourMAC, ourVIP)
	if err != nil {
		t.Fatal(err)
	}
	probe, err := arpProbe(ourMAC, ourVIP)
	if err != nil {
		t.Fatal(err)
	}
	const head = "ffffffffffff" + "020000000001" + "0806" + "0001" + "0800" + "06" + "04"
	for _, tt := range []struct {
		name  string
		frame []byte
		want  string
	}{
		{"the request form: sender and target are the VIP", announcements[0],
			head + "0001" + "020000000001" + "0a000032" + "000000000000" + "0a000032"},
		{"the reply form: the target MAC is the sender's", announcements[1],
			head + "0002" + "020000000001" + "0a000032" + "020000000001" + "0a000032"},
		{"the probe: its sender address is 0.0.0.0", probe,
			head + "0001" + "020000000001" + "00000000" + "000000000000" + "0a000032"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := hex.EncodeToString(tt.frame[:len(tt.want)/2]); got != tt.want {
				t.Errorf("frame\n  %s, want\n  %s", got, tt.want)
			}
		})
	}
	if mac := arpClaim(announcements[0], ourVIP); mac.String() != ourMAC.String() {
		t.Errorf("the request form claims for %v", mac)
	}
	if mac := arpClaim(announcements[1], ourVIP); mac.String() != ourMAC.String() {
		t.Errorf("the reply form claims for %v", mac)
	}
	if mac := arpClaim(probe, ourVIP); mac != nil {
		t.Errorf("a probe claims for %v", mac)
	}
	if mac := arpClaim(announcements[0], netip.MustParseAddr("10.0.0.51")); mac != nil {
		t.Errorf("an announcement of another address claims for %v", mac)
	}
}

func TestNeighbourAdvertisementClaims(t *testing.T) {
	a := netip.MustParseAddr("fd00::50")
	for _, tt := range []struct {
		name string
		m    ndp.Message
		want string
	}{
		{"our own form", ndpAnnouncement(ourMAC, a), ourMAC.String()},
		{"of another address", ndpAnnouncement(ourMAC, netip.MustParseAddr("fd00::51")), ""},
		{"without a hardware address", &ndp.NeighborAdvertisement{TargetAddress: a}, ""},
		{"a solicitation", &ndp.NeighborSolicitation{TargetAddress: a}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := ndpClaim(tt.m, a); got.String() != tt.want {
				t.Errorf("claims for %q, want %q", got, tt.want)
			}
		})
	}
}

func FuzzARPClaim(f *testing.F) {
	announcements, err := arpAnnouncements(ourMAC, ourVIP)
	if err != nil {
		f.Fatal(err)
	}
	for _, a := range announcements {
		f.Add(a)
	}
	f.Add(announcements[0][:20])
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, frame []byte) {
		if mac := arpClaim(frame, ourVIP); mac != nil && len(frame) < 28 {
			t.Errorf("%d bytes claim for %v", len(frame), mac)
		}
	})
}

// socketMessage is one netlink message of a socket dump.
func socketMessage(family byte, local netip.Addr) []byte {
	const body = 72 // struct inet_diag_msg
	b := make([]byte, unix.NLMSG_HDRLEN+body)
	binary.NativeEndian.PutUint32(b, uint32(len(b)))
	binary.NativeEndian.PutUint16(b[4:], sockDiagByFamily)
	b[unix.NLMSG_HDRLEN] = family
	raw := local.AsSlice()
	if family == unix.AF_INET6 && local.Is4() {
		mapped := local.As16()
		raw = mapped[:]
	}
	copy(b[unix.NLMSG_HDRLEN+diagSockIDAt+4:], raw)
	return b
}

func TestCollectFindsTheAddressesConnections(t *testing.T) {
	done := make([]byte, unix.NLMSG_HDRLEN+4)
	binary.NativeEndian.PutUint32(done, uint32(len(done)))
	binary.NativeEndian.PutUint16(done[4:], unix.NLMSG_DONE)
	var dump []byte
	dump = append(dump, socketMessage(unix.AF_INET, ourVIP)...)
	dump = append(dump, socketMessage(unix.AF_INET, netip.MustParseAddr("10.0.0.1"))...)
	dump = append(dump, socketMessage(unix.AF_INET6, ourVIP)...)
	dump = append(dump, socketMessage(unix.AF_INET6, netip.MustParseAddr("fd00::50"))...)
	kill, over, err := collect(nil, append(dump, done...), ourVIP)
	if err != nil || !over {
		t.Fatalf("over %v, error %v", over, err)
	}
	if len(kill) != 2*diagRequestLen {
		t.Fatalf("%d bytes of requests, want two requests: the IPv4 socket and the dual-stack one", len(kill))
	}
	for i, family := range []byte{unix.AF_INET, unix.AF_INET6} {
		if got := kill[i*diagRequestLen+unix.NLMSG_HDRLEN]; got != family {
			t.Errorf("request %d is for family %d, want %d", i, got, family)
		}
	}
}

func FuzzCollect(f *testing.F) {
	f.Add(socketMessage(unix.AF_INET, ourVIP))
	f.Add(socketMessage(unix.AF_INET6, ourVIP))
	f.Add([]byte{16, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, datagram []byte) {
		kill, _, _ := collect(nil, datagram, ourVIP)
		if len(kill)%diagRequestLen != 0 {
			t.Errorf("%d bytes of requests", len(kill))
		}
	})
}

func TestTableNamesBelongToOneAddress(t *testing.T) {
	for a, want := range map[string]string{
		"10.0.0.50": "redundancypool_10.0.0.50",
		"fd00::50":  "redundancypool_fd00__50",
	} {
		if got := tableName(netip.MustParseAddr(a)); got != want {
			t.Errorf("table of %s is %s, want %s", a, got, want)
		}
	}
}
