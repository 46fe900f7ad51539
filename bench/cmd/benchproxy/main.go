// Command benchproxy is a stateful proxy and registrar made with sipgo, to be measured beside the node. It is not part of the product.
//
// It serves UDP, believes every REGISTER, puts itself on the way of each call (Record-Route) and keeps a server and a client transaction for
// each request but ACK, for as long as RFC 3261 section 17 wants them to take up what is sent again, as the proxy among sipgo's examples does.
// It writes its address when it is ready.
package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"strconv"
	"sync"
	"syscall"

	"github.com/emiago/sipgo"
	"github.com/emiago/sipgo/sip"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "benchproxy:", err)
		os.Exit(1)
	}
}

func run() error {
	sip.SetDefaultLogger(slog.New(slog.NewTextHandler(io.Discard, nil))) // nobody logs in this comparison
	conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		return err
	}
	if err := conn.SetReadBuffer(512 << 10); err != nil { // like the node's
		return err
	}
	ua, err := sipgo.NewUA(sipgo.WithUserAgent("benchproxy"))
	if err != nil {
		return err
	}
	defer ua.Close()
	server, err := sipgo.NewServer(ua)
	if err != nil {
		return err
	}
	addr := conn.LocalAddr().(*net.UDPAddr).AddrPort()
	client, err := sipgo.NewClient(ua, sipgo.WithClientAddr(addr.String()))
	if err != nil {
		return err
	}
	p := &proxy{client: client, self: addr.String()}
	server.OnRegister(p.register)
	server.OnAck(p.ack)
	server.OnNoRoute(p.forward)
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	go func() {
		<-ctx.Done()
		_ = conn.Close()
	}()
	fmt.Println(addr)
	if err := server.ServeUDP(conn); err != nil && ctx.Err() == nil {
		return err
	}
	return nil
}

type proxy struct {
	client   *sipgo.Client
	self     string
	contacts sync.Map // user -> host:port
}

// register keeps the contact of a user; the last one counts.
func (p *proxy) register(req *sip.Request, tx sip.ServerTransaction) {
	to, contact := req.To(), req.Contact()
	if to == nil || contact == nil {
		_ = tx.Respond(sip.NewResponseFromRequest(req, sip.StatusBadRequest, "Bad Request", nil))
		return
	}
	if expires := req.GetHeader("Expires"); expires != nil && expires.Value() == "0" {
		p.contacts.Delete(to.Address.User)
	} else {
		p.contacts.Store(to.Address.User, hostPort(contact.Address))
	}
	res := sip.NewResponseFromRequest(req, sip.StatusOK, "OK", nil)
	res.AppendHeader(sip.HeaderClone(contact))
	_ = tx.Respond(res)
}

func hostPort(u sip.Uri) string {
	port := u.Port
	if port == 0 {
		port = 5060
	}
	return net.JoinHostPort(u.Host, strconv.Itoa(port))
}

// target sets where a request goes next: within a dialog to its request URI, after our own Route field is taken off; else to the contact.
func (p *proxy) target(req *sip.Request) bool {
	if to := req.To(); to != nil && to.Params.Has("tag") {
		if route := req.Route(); route != nil && hostPort(route.Address) == p.self {
			req.RemoveHeader("Route")
		}
		req.SetDestination(hostPort(req.Recipient))
		return true
	}
	contact, ok := p.contacts.Load(req.Recipient.User)
	if ok {
		req.SetDestination(contact.(string))
	}
	return ok
}

// ack passes on the ACK of an answer, which belongs to no transaction. That of a refusal ends with our own.
func (p *proxy) ack(req *sip.Request, _ sip.ServerTransaction) {
	if p.target(req) {
		_ = p.client.WriteRequest(req, sipgo.ClientRequestAddVia, sipgo.ClientRequestDecreaseMaxForward)
	}
}

// forward runs a client transaction for a request and hands its responses back. It returns when either transaction is over, since sipgo ends
// the server's with it.
func (p *proxy) forward(req *sip.Request, tx sip.ServerTransaction) {
	fail := func(status int, reason string) {
		_ = tx.Respond(sip.NewResponseFromRequest(req, status, reason, nil))
	}
	if !p.target(req) {
		fail(sip.StatusNotFound, "Not Found")
		return
	}
	options := []sipgo.ClientRequestOption{sipgo.ClientRequestAddVia, sipgo.ClientRequestDecreaseMaxForward}
	if req.IsInvite() {
		options = append(options, sipgo.ClientRequestAddRecordRoute)
	}
	out, err := p.client.TransactionRequest(context.Background(), req, options...)
	if err != nil {
		fail(sip.StatusBadGateway, "Bad Gateway")
		return
	}
	defer out.Terminate()
	answered := false
	for {
		select {
		case res, more := <-out.Responses():
			if !more {
				return
			}
			res.RemoveHeader("Via") // our own
			res.SetDestination(req.Source())
			if tx.Respond(res) != nil {
				return
			}
			answered = answered || !res.IsProvisional()
		case <-out.Done():
			if !answered {
				fail(sip.StatusRequestTimeout, "Request Timeout")
			}
			return
		case <-tx.Done():
			return
		}
	}
}
