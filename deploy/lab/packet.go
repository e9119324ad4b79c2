package lab

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// openPacket opens an AF_PACKET socket on the named interface of the calling thread's namespace.
// It sees every frame that arrives there, also on a bridge port that is disabled, and none that
// this machine sends out. The file works with the runtime's poller: Close ends a blocked Read.
func openPacket(ifname string, filter []unix.SockFilter, offloads bool) (*os.File, error) {
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("open packet socket: %w", err)
	}
	f := os.NewFile(uintptr(fd), "packet:"+ifname)
	if err := setUpPacket(fd, ifname, filter, offloads); err != nil {
		f.Close()
		return nil, fmt.Errorf("packet socket on %s: %w", ifname, err)
	}
	return f, nil
}

func setUpPacket(fd int, ifname string, filter []unix.SockFilter, offloads bool) error {
	if len(filter) > 0 {
		prog := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
		if err := unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &prog); err != nil {
			return fmt.Errorf("attach filter: %w", err)
		}
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1); err != nil {
		return fmt.Errorf("ignore outgoing frames: %w", err)
	}
	if offloads {
		// Each frame is preceded by a virtio_net_hdr: checksums left to the hardware and frames
		// of 64 KB pass through a relay unharmed.
		if err := unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_VNET_HDR, 1); err != nil {
			return fmt.Errorf("ask for offload headers: %w", err)
		}
	}
	ifreq, err := unix.NewIfreq(ifname)
	if err != nil {
		return err
	}
	if err := unix.IoctlIfreq(fd, unix.SIOCGIFINDEX, ifreq); err != nil {
		return fmt.Errorf("look up interface: %w", err)
	}
	index := int(ifreq.Uint32())
	if offloads {
		mreq := unix.PacketMreq{Ifindex: int32(index), Type: unix.PACKET_MR_PROMISC}
		if err := unix.SetsockoptPacketMreq(fd, unix.SOL_PACKET, unix.PACKET_ADD_MEMBERSHIP, &mreq); err != nil {
			return fmt.Errorf("promiscuous mode: %w", err)
		}
	}
	return unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: htons(unix.ETH_P_ALL), Ifindex: index})
}

func htons(v uint16) uint16 { return v<<8 | v>>8 }

// onlyARP lets ARP frames pass and nothing else (classic BPF: load the EtherType, compare).
func onlyARP() []unix.SockFilter {
	return []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_H | unix.BPF_ABS, K: 12},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: unix.ETH_P_ARP, Jt: 0, Jf: 1},
		{Code: unix.BPF_RET | unix.BPF_K, K: 0xffff},
		{Code: unix.BPF_RET | unix.BPF_K, K: 0},
	}
}
