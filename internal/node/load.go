package node

// Load counts what a node holds at a moment. Between calls and requests everything but Conns is 0.
type Load struct {
	Calls    int
	Dialogs  int
	Requests int // server transactions that are not finished
	Asked    int // client transactions that are not finished
	Legs     int // media legs, with two ports each
	Conns    int // SIP connections
}

// Load returns what the node holds now. It may be called from anywhere.
func (n *Node) Load() Load {
	l := Load{Calls: n.Calls.Count(), Requests: n.txs.Active(), Legs: n.media.Legs(), Conns: len(n.Transport.Conns())}
	for _, s := range n.txs.Shards() {
		s.Do(func() {
			l.Dialogs += n.chain.dialogs.Count(s)
			l.Asked += s.Clients()
		})
	}
	return l
}
