package tlspolicy

import (
	"crypto/tls"
	"reflect"
	"sync"
	"sync/atomic"
)

// Policy is a tree that can be replaced while listeners use it.
type Policy struct {
	tree atomic.Pointer[Tree]
}

// New returns a policy.
func New(t Tree) *Policy {
	p := &Policy{}
	p.Replace(t)
	return p
}

// Replace puts another tree into force. Connections that are up keep what they have; each new handshake goes by the new tree.
func (p *Policy) Replace(t Tree) { p.tree.Store(&t) }

// Tree returns the tree in force.
func (p *Policy) Tree() Tree { return *p.tree.Load() }

// Server returns the configuration of a listener. base has its certificate, its anchors and its checks; at each handshake the rest is as the tree says
// then.
func (p *Policy) Server(l Listener, base *tls.Config) *tls.Config {
	var mu sync.Mutex
	var of *Tree // what current was made of
	var last Effective
	current := base.Clone()
	out := base.Clone()
	out.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) {
		mu.Lock()
		defer mu.Unlock()
		if now := p.tree.Load(); now != of {
			// One configuration as long as nothing changes: the keys of session tickets belong to it.
			if e := (*now).For(l); of == nil || !same(e, last) {
				current = base.Clone()
				e.apply(current)
				last = e
			}
			of = now
		}
		return current, nil
	}
	(*p.tree.Load()).For(l).apply(out)
	return out
}

func same(a, b Effective) bool {
	return a.min == b.min && a.auth == b.auth && reflect.DeepEqual(a.suites, b.suites) && reflect.DeepEqual(a.groups, b.groups)
}
