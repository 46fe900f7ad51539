package api

import (
	"time"

	"ringfence"
)

// CTISession is a system that follows calls.
type CTISession struct {
	Identity      string              `json:"identity" doc:"which of cti.clients it is"`
	Remote        string              `json:"remote"`
	Since         time.Time           `json:"since"`
	Channel       string              `json:"channel,omitempty" doc:"empty until it has opened one"`
	Subscriptions int                 `json:"subscriptions"`
	Sent          uint64              `json:"sent" doc:"messages"`
	Unanswered    int                 `json:"unanswered" doc:"events that it has not answered"`
	TLS           *ringfence.TLSProof `json:"tls"`
}
