package bus

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"ringfence"
)

// subject is where events go; the kind follows.
const subject = "ringfence.event."

// Server is a NATS server inside this process. It listens on no socket.
type Server struct {
	nats  *server.Server
	buses atomic.Int32 // on it
}

// alone reports whether only one bus is on the server, so that nobody else would hear what it says.
func (s *Server) alone() bool { return s != nil && s.buses.Load() == 1 }

// NewServer starts an embedded server.
func NewServer() (*Server, error) {
	s, err := server.NewServer(&server.Options{ServerName: "embedded", DontListen: true, NoSigs: true, NoLog: true, MaxPayload: MaxEvent, NoSystemAccount: true})
	if err != nil {
		return nil, &ringfence.Fault{Op: "bus.server", Kind: ringfence.KindInternal, Text: "the embedded NATS server cannot be made", Err: err}
	}
	s.Start()
	if !s.ReadyForConnections(10 * time.Second) {
		s.Shutdown()
		return nil, &ringfence.Fault{Op: "bus.server", Kind: ringfence.KindTimeout, Text: "the embedded NATS server did not start"}
	}
	return &Server{nats: s}, nil
}

// Close stops the server; every bus on it should be closed before.
func (s *Server) Close() {
	s.nats.Shutdown()
	s.nats.WaitForShutdown()
}

// link is a connection to NATS.
type link struct {
	nc     *nats.Conn
	server *Server // nil: an outside one
}

func (b *Bus) connect(ctx context.Context) (*link, error) {
	const op = "bus.connect"
	log := b.cfg.Log
	var late atomic.Bool // the server was not there when the bus was opened
	opts := []nats.Option{
		nats.Name(string(b.cfg.Node)), nats.NoEcho(), nats.MaxReconnects(-1), nats.ReconnectWait(time.Second), nats.ReconnectBufSize(1 << 20),
		nats.PingInterval(20 * time.Second), nats.MaxPingsOutstanding(2), nats.Timeout(5 * time.Second), nats.IgnoreDiscoveredServers(),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
			if errors.Is(err, nats.ErrSlowConsumer) {
				b.lost("events came faster than they were read")
				return
			}
			log.Warn("the bus reports an error", "url", b.cfg.URL, "err", err)
		}),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			if err != nil {
				log.Warn("the bus is out of reach; events stay in this node", "url", b.cfg.URL, "err", err)
			}
		}),
		nats.ReconnectHandler(func(nc *nats.Conn) { b.back(nc) }),
		nats.ConnectHandler(func(nc *nats.Conn) {
			if late.Load() {
				b.back(nc)
			}
		}),
	}
	url := b.cfg.URL
	if b.cfg.Server != nil {
		opts = append(opts, nats.InProcessServer(b.cfg.Server.nats))
		url = nats.DefaultURL // is not dialled
	} else {
		if b.cfg.TLS == nil || b.cfg.Opener == nil {
			return nil, &ringfence.Fault{Op: op, Kind: ringfence.KindInsecure, Text: "an outside bus needs TLS", Hint: "give its URL as tls://host:port"}
		}
		opts = append(opts, nats.Secure(b.cfg.TLS), nats.SetCustomDialer(dialer{b.cfg.Opener}), nats.RetryOnFailedConnect(true))
		if b.cfg.Credentials != "" {
			opts = append(opts, nats.UserCredentials(b.cfg.Credentials))
		}
	}
	nc, err := nats.Connect(url, opts...)
	if err != nil {
		return nil, &ringfence.Fault{Op: op, Kind: ringfence.KindUnavailable, Text: "the bus cannot be joined", Hint: "see bus in the configuration", Err: err}
	}
	sub, err := nc.Subscribe(subject+">", func(m *nats.Msg) { b.heard(m.Data) })
	if err == nil {
		err = sub.SetPendingLimits(b.cfg.Queue, b.cfg.Queue*MaxEvent)
	}
	if err == nil && nc.IsConnected() { // what is published after Open is heard
		flush, cancel := context.WithTimeout(ctx, 5*time.Second)
		err = nc.FlushWithContext(flush)
		cancel()
	}
	if err != nil {
		nc.Close()
		return nil, &ringfence.Fault{Op: op, Kind: ringfence.KindUnavailable, Text: "the bus cannot be heard", Err: err}
	}
	if !nc.IsConnected() {
		late.Store(true) // nobody has subscribed yet, so a connection made just before this needs no word
		log.Warn("the bus is out of reach; events stay in this node until it is there", "url", b.cfg.URL)
	}
	if b.cfg.Server != nil {
		b.cfg.Server.buses.Add(1)
	}
	return &link{nc, b.cfg.Server}, nil
}

// back is called when the server can be reached again. Only after its answer is it sure that it knows our subscription: whoever
// reads the store on hearing Lost then misses nothing.
func (b *Bus) back(nc *nats.Conn) {
	if err := nc.FlushTimeout(5 * time.Second); err != nil {
		return // out of reach once more; back is called again
	}
	b.cfg.Log.Info("the bus is there", "url", b.cfg.URL)
	b.lost("the bus was out of reach")
}

func (l *link) publish(kind Kind, text []byte) error { return l.nc.Publish(subject+string(kind), text) }

// close sends what is buffered, if the server is there, and leaves.
func (l *link) close() {
	if l.nc.IsConnected() {
		_ = l.nc.FlushTimeout(time.Second)
	}
	l.nc.Close()
	if l.server != nil {
		l.server.buses.Add(-1)
	}
}
