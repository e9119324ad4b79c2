package lab

import (
	"container/heap"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
)

// Impairment is what a bad cable does to frames, in each direction on its own.
type Impairment struct {
	Delay  time.Duration // added to every frame, 0 to 10 s
	Jitter time.Duration // up to this much more, evenly spread; frames may overtake one another
	Loss   float64       // share of frames dropped, 0 to 1
	Seed   uint64        // of the dice for Jitter and Loss
}

// Validate names the field that is out of range.
func (i Impairment) Validate() error {
	switch {
	case i.Delay < 0 || i.Delay > 10*time.Second:
		return fmt.Errorf("delay %v: use 0 to 10 s", i.Delay)
	case i.Jitter < 0 || i.Jitter > 10*time.Second:
		return fmt.Errorf("jitter %v: use 0 to 10 s", i.Jitter)
	case i.Loss < 0 || i.Loss > 1:
		return fmt.Errorf("loss %v: use a share from 0 to 1", i.Loss)
	}
	return nil
}

// relayQueue is how many frames one direction holds back at most; a switch drops, too.
const relayQueue = 4096

// relay carries frames between a cable and the bridge, since not every kernel has netem. It
// copies them with AF_PACKET sockets, so it works without root in a user namespace.
type relay struct {
	dirs  [2]*direction
	files [2]*os.File
	wg    sync.WaitGroup
}

// insertRelay takes the cable off the bridge and puts a relay between. The caller holds k.mu.
func (k *Link) insertRelay(i Impairment) error {
	sw := k.host.lab.swtch
	attrs := netlink.NewLinkAttrs()
	attrs.Name = k.cable() + "-r"
	inner := k.cable() + "-i"
	if err := sw.nl.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: inner}); err != nil {
		return fmt.Errorf("add the relay's cable: %w", err)
	}
	if err := setUp(sw.nl, inner, true); err != nil {
		return err
	}
	var files [2]*os.File
	err := sw.do(func() error {
		for n, name := range []string{k.cable(), inner} {
			f, err := openPacket(name, nil, true)
			if err != nil {
				return err
			}
			files[n] = f
		}
		return nil
	})
	if err != nil {
		if files[0] != nil {
			files[0].Close()
		}
		return err
	}
	cable, err := sw.nl.LinkByName(k.cable())
	if err != nil {
		return fmt.Errorf("find cable %s: %w", k.cable(), err)
	}
	if err := sw.nl.LinkSetNoMaster(cable); err != nil {
		return fmt.Errorf("take %s off the bridge: %w", k.cable(), err)
	}
	k.relay = newRelay(files, i)
	if err := k.enslave(k.port()); err != nil {
		return err
	}
	return errors.Join(k.sync(), k.host.lab.resyncBlocks())
}

// removeRelay puts the cable back on the bridge. The caller holds k.mu.
func (k *Link) removeRelay() error {
	nl := k.host.lab.swtch.nl
	port, err := nl.LinkByName(k.port())
	if err != nil {
		return fmt.Errorf("find port %s: %w", k.port(), err)
	}
	closed := k.relay.close()
	k.relay = nil
	if err := nl.LinkDel(port); err != nil {
		return fmt.Errorf("remove the relay's cable: %w", err)
	}
	return errors.Join(closed, k.enslave(k.cable()), k.sync(), k.host.lab.resyncBlocks())
}

func newRelay(files [2]*os.File, i Impairment) *relay {
	r := &relay{files: files}
	for n := range r.dirs {
		r.dirs[n] = newDirection(files[n], files[1-n], uint64(n))
	}
	r.set(i)
	for _, d := range r.dirs {
		r.wg.Add(2)
		go func() { defer r.wg.Done(); d.receive() }()
		go func() { defer r.wg.Done(); d.send() }()
	}
	return r
}

func (r *relay) set(i Impairment) {
	for _, d := range r.dirs {
		d.set(i)
	}
}

// close ends the relay; frames that are held back are lost.
func (r *relay) close() error {
	err := errors.Join(r.files[0].Close(), r.files[1].Close())
	for _, d := range r.dirs {
		d.stop()
	}
	r.wg.Wait()
	return err
}

// direction carries the frames of one way.
type direction struct {
	in, out *os.File
	wake    chan struct{} // has room for one: the queue's head changed
	done    chan struct{}

	mu    sync.Mutex
	imp   Impairment
	dice  *rand.Rand
	side  uint64
	count uint64
	queue frameQueue
}

type frame struct {
	due   time.Time
	order uint64 // keeps frames of one due time in order
	data  []byte
}

func newDirection(in, out *os.File, side uint64) *direction {
	return &direction{in: in, out: out, side: side, wake: make(chan struct{}, 1), done: make(chan struct{})}
}

func (d *direction) set(i Impairment) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.imp = i
	d.dice = rand.New(rand.NewPCG(i.Seed, d.side))
}

func (d *direction) stop() { close(d.done) }

// receive reads frames until the socket is closed, decides their fate and queues them.
func (d *direction) receive() {
	buf := make([]byte, 70_000) // virtio_net_hdr, Ethernet header, 64 KB
	for {
		n, err := d.in.Read(buf)
		if errors.Is(err, os.ErrClosed) {
			return
		}
		if err != nil || n == 0 {
			// ENETDOWN while the cable is unplugged; the socket lives on.
			if !d.pause(5 * time.Millisecond) {
				return
			}
			continue
		}
		d.push(buf[:n])
	}
}

func (d *direction) pause(t time.Duration) bool {
	select {
	case <-d.done:
		return false
	case <-time.After(t):
		return true
	}
}

func (d *direction) push(data []byte) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.dice.Float64() < d.imp.Loss || len(d.queue) >= relayQueue {
		return
	}
	due := time.Now().Add(d.imp.Delay)
	if d.imp.Jitter > 0 {
		due = due.Add(time.Duration(d.dice.Int64N(int64(d.imp.Jitter))))
	}
	d.count++
	heap.Push(&d.queue, frame{due: due, order: d.count, data: append([]byte(nil), data...)})
	select {
	case d.wake <- struct{}{}:
	default:
	}
}

// send writes frames when they are due, until stop.
func (d *direction) send() {
	for {
		f, wait := d.pop()
		if wait == 0 {
			// An error means the other side is down or its queue is full: the frame is lost.
			_, _ = d.out.Write(f.data)
			continue
		}
		timer := time.NewTimer(wait)
		select {
		case <-d.done:
			timer.Stop()
			return
		case <-d.wake:
			timer.Stop()
		case <-timer.C:
		}
	}
}

// pop returns the next due frame, or how long to wait before asking again.
func (d *direction) pop() (frame, time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.queue) == 0 {
		return frame{}, time.Hour
	}
	if wait := time.Until(d.queue[0].due); wait > 0 {
		return frame{}, wait
	}
	return heap.Pop(&d.queue).(frame), 0
}

// frameQueue orders frames by due time (container/heap).
type frameQueue []frame

func (q frameQueue) Len() int { return len(q) }
func (q frameQueue) Less(i, j int) bool {
	if q[i].due.Equal(q[j].due) {
		return q[i].order < q[j].order
	}
	return q[i].due.Before(q[j].due)
}
func (q frameQueue) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q *frameQueue) Push(x any)   { *q = append(*q, x.(frame)) }
func (q *frameQueue) Pop() any {
	old := *q
	x := old[len(old)-1]
	*q = old[:len(old)-1]
	return x
}
