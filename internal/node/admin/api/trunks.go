package api

import (
	"time"

	"ringfence"
	"ringfence/internal/trust/profile"
)

// Trunk is another telephone system, as it is now.
type Trunk struct {
	Name     string              `json:"name" example:"vcube"`
	Host     string              `json:"host" example:"sbc.example.org"`
	Port     uint16              `json:"port,omitempty" doc:"0: what DNS says, else 5061"`
	Prefix   string              `json:"prefix,omitempty" doc:"what comes before our own numbers at the other side" example:"+4930123"`
	Security string              `json:"security" doc:"its security profile" example:"encrypted"`
	Incoming profile.Transport   `json:"incoming" enum:"tls,off"`
	Outgoing profile.Transport   `json:"outgoing" enum:"tls,off"`
	Subjects []string            `json:"subjects" doc:"of which its certificate must carry one"`
	Anchors  []string            `json:"anchors" doc:"whom its certificate must come from"`
	Accept   []profile.Request   `json:"accept" doc:"what it may ask for besides calls"`
	Up       bool                `json:"up" doc:"whether calls can go out now"`
	Since    time.Time           `json:"since,omitzero" doc:"since when"`
	Cause    string              `json:"cause,omitempty" doc:"why calls cannot go out"`
	Remote   string              `json:"remote,omitempty" doc:"where the connection leads"`
	TLS      *ringfence.TLSProof `json:"tls,omitempty" doc:"how the connection is sealed"`
}

// Security is the security mode of the cluster and its profiles, with those that are built in.
type Security struct {
	Mode   profile.Cluster `json:"mode" enum:"mixed,encrypted"`
	Phones []PhoneProfile  `json:"phones"`
	Trunks []TrunkProfile  `json:"trunks"`
	Not    []NotServed     `json:"not_served" doc:"modes that others have and this does not, and why"`
}

// PhoneProfile is a phone security profile.
type PhoneProfile struct {
	Name string           `json:"name" example:"encrypted"`
	Mode profile.Mode     `json:"mode" enum:"encrypted,non-secure"`
	Auth []ringfence.Auth `json:"auth,omitempty" doc:"how its phones may prove themselves; empty: in any way"`
}

// TrunkProfile is a trunk security profile.
type TrunkProfile struct {
	Name     string            `json:"name" example:"cube"`
	Incoming profile.Transport `json:"incoming" enum:"tls,off"`
	Outgoing profile.Transport `json:"outgoing" enum:"tls,off"`
	Subjects []string          `json:"subjects,omitempty" doc:"of which the certificate of the other side must carry one; empty: the host of the trunk"`
	Anchors  []string          `json:"anchors,omitempty" doc:"whom such a certificate must come from; empty: this organisation's own authority"`
	Accept   []profile.Request `json:"accept,omitempty" doc:"what the other side may ask for besides calls"`
}

// NotServed is a mode that is refused.
type NotServed struct {
	Mode string `json:"mode" example:"authenticated"`
	Why  string `json:"why"`
}
