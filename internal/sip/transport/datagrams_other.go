//go:build !linux

package transport

import "net"

func newDatagrams(pc net.PacketConn) datagrams { return &plainDatagrams{PacketConn: pc} }
