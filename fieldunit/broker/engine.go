package broker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"

	"redundancypool/fieldunit"
)

const (
	maxPacket     = fieldunit.MaxPayload + 2048 // payload, topic and properties
	admitTime     = 5 * time.Second             // for the Doorkeeper
	maxPubrecs    = 256                         // QoS 2 messages of one unit that wait for their PUBREL
	closingReason = "server shutting down"
	displaceBy    = 5 * time.Second // for a displaced session to let go
)

// newEngine returns the protocol engine with every feature off that telemetry does not need.
// Its event loop is not started: it only expires sessions and wills, and we keep neither.
func newEngine(b *Broker) *mqtt.Server {
	c := mqtt.NewDefaultServerCapabilities() // a literal would leave no packet ids
	c.MinimumProtocolVersion = 4             // MQTT 3.1.1
	c.MaximumPacketSize = maxPacket          // default: none, five bytes then allocate 256 MB
	c.MaximumClientWritesPending = 64
	c.MaximumSessionExpiryInterval = 0 // a session ends with its connection
	c.ReceiveMaximum = uint16(b.cfg.Window)
	c.TopicAliasMaximum = 0
	c.RetainAvailable = 1 // a retained message is taken as a plain one: some gateways always set the flag
	c.SharedSubAvailable = 0
	c.WildcardSubAvailable = 0
	srv := mqtt.New(&mqtt.Options{
		Capabilities: c,
		Logger:       slog.New(slog.DiscardHandler), // it logs payloads
	})
	if err := srv.AddHook(&hook{b: b}, nil); err != nil {
		panic(err) // only our own Init can fail, and it does not
	}
	return srv
}

// hook is where all our rules meet the engine.
type hook struct {
	mqtt.HookBase
	b *Broker
}

func (h *hook) ID() string { return "fieldunit" }

func (h *hook) Provides(what byte) bool {
	switch what {
	case mqtt.OnConnect, mqtt.OnConnectAuthenticate, mqtt.OnACLCheck, mqtt.OnSessionEstablished, mqtt.OnPacketRead, mqtt.OnPacketEncode, mqtt.OnPublish:
		return true
	}
	return false
}

// OnConnect admits the unit, or answers with the refusal and ends the connection. It comes
// before the engine registers the client, so nobody displaces a session without its secret.
func (h *hook) OnConnect(cl *mqtt.Client, pk packets.Packet) error {
	b, k := h.b, cl.Net.Conn.(*link)
	cl.Properties.Will = mqtt.Will{} // the engine would publish it past every check
	cl.Properties.Clean = true       // nothing is kept: session present is always 0
	limitKeepAlive(cl, b.cfg.MaxKeepAlive)

	unit := string(pk.Connect.Username)
	if err := fieldunit.ValidateName(unit); err != nil {
		return h.deny(cl, "", packets.ErrBadUsernameOrPassword, "no valid user name: "+err.Error())
	}
	ctx, cancel := context.WithTimeout(b.ctx, admitTime)
	err := b.cfg.Doorkeeper.Admit(ctx, unit, string(pk.Connect.Password))
	cancel()
	if errors.Is(err, ErrDenied) {
		return h.deny(cl, unit, packets.ErrBadUsernameOrPassword, err.Error())
	}
	if err != nil {
		return h.deny(cl, unit, packets.ErrServerUnavailable, err.Error())
	}
	if cl.Properties.Props.AssignedClientID != "" {
		cl.Properties.Props.AssignedClientID = unit
	}
	cl.ID = unit // whatever client id it sent: a unit has one session, and takes over only its own
	return h.admit(cl, k, unit)
}

// admit registers the session, and waits until the one it displaces has let go.
func (h *hook) admit(cl *mqtt.Client, k *link, unit string) error {
	b := h.b
	b.mu.Lock()
	if b.closed {
		b.mu.Unlock()
		return h.deny(cl, unit, packets.ErrServerUnavailable, "the server is closing")
	}
	old := b.sessions[unit]
	k.client, k.unit, k.since = cl, unit, time.Now()
	b.sessions[unit] = k
	b.mu.Unlock()
	if old == nil {
		return nil
	}
	old.cut(packets.ErrSessionTakenOver, fmt.Sprintf("displaced by a second connection of the same unit, from %v", k.RemoteAddr()))
	select {
	case <-old.ended:
		return nil
	case <-k.gone:
	case <-b.ctx.Done():
	case <-time.After(displaceBy):
	}
	return packets.ErrServerBusy
}

func (h *hook) deny(cl *mqtt.Client, unit string, code packets.Code, reason string) error {
	_ = h.b.srv.SendConnack(cl, code, false, nil) // the engine itself closes without a word
	h.b.news.report("", unit, "", fmt.Sprintf("connection from %s refused: %s", cl.Net.Remote, reason))
	return code
}

// limitKeepAlive keeps dead connections from lingering. A v5 client is told; a 3.1.1 client cannot
// be, so only the engine's 16-bit arithmetic is protected, which wraps above 43,690 s.
func limitKeepAlive(cl *mqtt.Client, most time.Duration) {
	limit := uint16(most / time.Second)
	if cl.Properties.ProtocolVersion == 5 && (cl.State.Keepalive == 0 || cl.State.Keepalive > limit) {
		cl.State.Keepalive = limit
		cl.State.ServerKeepalive = true
	}
	cl.State.Keepalive = min(cl.State.Keepalive, 36_000)
}

// OnConnectAuthenticate: OnConnect has decided.
func (h *hook) OnConnectAuthenticate(cl *mqtt.Client, _ packets.Packet) bool {
	return cl.Net.Conn.(*link).unit != ""
}

// OnSessionEstablished follows the CONNACK.
func (h *hook) OnSessionEstablished(cl *mqtt.Client, _ packets.Packet) {
	k := cl.Net.Conn.(*link)
	k.announced = true
	if h.b.cfg.Connected != nil {
		h.b.cfg.Connected(k.session())
	}
}

// OnACLCheck: a unit may subscribe to its own commands alone. What it publishes is judged in
// OnPublish, where the reason can be told.
func (h *hook) OnACLCheck(cl *mqtt.Client, topic string, write bool) bool {
	return write || topic == fieldunit.CommandTopic(cl.ID)
}

// OnPacketRead closes on what the engine would drop in silence, which a unit would wait for.
func (h *hook) OnPacketRead(cl *mqtt.Client, pk packets.Packet) (packets.Packet, error) {
	k := cl.Net.Conn.(*link)
	if pk.FixedHeader.Type != packets.Publish || k.unit == "" {
		return pk, nil
	}
	if !mqtt.IsValidFilter(pk.TopicName, true) || pk.TopicName == "" {
		h.b.news.report(k.unit, k.unit, pk.TopicName, "topic: not one to publish to: the connection was closed")
		k.cut(packets.ErrTopicNameInvalid, "topic name invalid")
		return pk, packets.ErrRejectPacket
	}
	if pk.FixedHeader.Qos == 2 && cl.State.Inflight.Len() >= maxPubrecs {
		h.b.news.report(k.unit, k.unit, pk.TopicName, fmt.Sprintf("%d QoS 2 messages wait for their release (PUBREL): the connection was closed; use QoS 1", maxPubrecs))
		k.cut(packets.ErrReceiveMaximum, "QoS 2 messages wait for their release")
		return pk, packets.ErrRejectPacket
	}
	return pk, nil
}

// OnPacketEncode tells v5 clients the limit that the engine enforces but does not announce.
func (h *hook) OnPacketEncode(_ *mqtt.Client, pk packets.Packet) packets.Packet {
	if pk.FixedHeader.Type == packets.Connack && pk.ReasonCode == 0 {
		pk.Properties.MaximumPacketSize = maxPacket
	}
	return pk
}

// OnPublish takes one message. It always returns ErrRejectPacket, upon which the engine does
// nothing more: every other error but that would be acknowledged as success. The acknowledgement
// follows from settle, after the commit.
func (h *hook) OnPublish(cl *mqtt.Client, pk packets.Packet) (packets.Packet, error) {
	b, k := h.b, cl.Net.Conn.(*link)
	for _, places := range []chan struct{}{k.window, b.slots} { // back-pressure: we read no further meanwhile
		select {
		case places <- struct{}{}:
		case <-k.gone:
			return pk, packets.ErrRejectPacket
		}
	}
	if !b.gate.enter() {
		<-k.gone // draining: read nothing more until the connection is closed
		return pk, packets.ErrRejectPacket
	}
	p := &pending{id: pk.PacketID, qos: pk.FixedHeader.Qos}
	k.expect(p)
	err := fieldunit.ValidateTopic(k.unit, pk.TopicName)
	if err != nil {
		h.refuse(k, p, pk, packets.ErrNotAuthorized, err)
		return pk, packets.ErrRejectPacket
	}
	list, err := fieldunit.Decode(k.unit, pk.Payload)
	if err != nil {
		h.refuse(k, p, pk, packets.ErrPayloadFormatInvalid, err)
		return pk, packets.ErrRejectPacket
	}
	if b.submit == nil {
		b.records.Go(func() { h.recorded(k, p, pk, b.cfg.Recorder.Record(b.ctx, list)) })
		return pk, packets.ErrRejectPacket
	}
	b.records.Add(1)
	b.submit.Submit(b.ctx, list, func(err error) {
		if err == nil && p.qos > 0 { // the usual case: a goroutine per unit and commit, not per message
			k.note()
			if !k.finish(p) {
				b.records.Done()
				return
			}
			go func() { defer b.records.Done(); k.flush() }()
			return
		}
		go func() { defer b.records.Done(); h.recorded(k, p, pk, err) }()
	})
	return pk, packets.ErrRejectPacket
}

// recorded ends a message with what the Recorder said.
func (h *hook) recorded(k *link, p *pending, pk packets.Packet, err error) {
	switch {
	case err == nil:
		k.note()
		k.settle(p)
	case errors.Is(err, ErrRefused):
		h.refuse(k, p, pk, packets.ErrImplementationSpecificError, err)
	default:
		p.lost = true
		k.settle(p)
		if h.b.ctx.Err() != nil {
			k.cut(packets.ErrServerShuttingDown, closingReason)
		} else {
			k.cut(packets.ErrServerBusy, "not recorded: send again")
		}
		h.b.cfg.Log.Debug("telemetry not recorded", "unit", k.unit, "error", err)
	}
}

// refuse ends a message that will never be accepted. MQTT 5 has a reason code for it, upon which
// the client does not send it again. MQTT 3.1.1 can only acknowledge or close (3.3.5): the
// connection is closed, so that the unit's user sees an error; the same message seen again is released with
// an acknowledgement, or it would come back for ever and hold up all that follows it. It is in
// the report each time.
func (h *hook) refuse(k *link, p *pending, pk packets.Packet, code packets.Code, err error) {
	h.b.news.report(k.unit, k.unit, pk.TopicName, err.Error())
	v5 := k.client.Properties.ProtocolVersion == 5
	if v5 {
		p.code = code.Code
	}
	if v5 || p.qos == 0 || h.b.news.again(k.unit, pk.TopicName, pk.Payload) {
		k.settle(p)
		return
	}
	p.lost = true
	k.settle(p)
	k.cut(code, err.Error())
}
