package api

import "time"

// NewCAPFOrder orders something of a device by CAPF.
type NewCAPFOrder struct {
	Operation   string    `json:"operation" enum:"Install/Upgrade,Delete,Troubleshoot" doc:"install a certificate, delete it, or fetch it to look at"`
	Auth        string    `json:"auth,omitempty" enum:"string,lsc,mic,null" doc:"how the device proves itself: by authentication string (the default), by the certificate it has, or by nothing, for which it needs an exception"`
	String      string    `json:"string,omitempty" pattern:"^[0-9]{4,10}$" doc:"the authentication string; made if it is left out"`
	Key         string    `json:"key,omitempty" enum:"rsa-2048,rsa-3072,rsa-4096,ec-p256,ec-p384" doc:"ec-p256 if it is left out"`
	Old         bool      `json:"old,omitempty" doc:"take a proof with SHA-1 from a phone that can do no better; who receives it can use it again"`
	CompletesBy time.Time `json:"completes_by,omitzero" doc:"a week from now if it is left out"`
}

// CAPFOrder is what was ordered of a device, and what became of it.
type CAPFOrder struct {
	ID          string    `json:"id"`
	Device      string    `json:"device"`
	Operation   string    `json:"operation"`
	Auth        string    `json:"auth"`
	String      string    `json:"string,omitempty" doc:"the authentication string; shown once, when the order is given"`
	Key         string    `json:"key,omitempty"`
	CompletesBy time.Time `json:"completes_by"`
	Created     time.Time `json:"created"`
	Open        bool      `json:"open"`
	Status      string    `json:"status"`
	Reason      string    `json:"reason,omitempty"`
	At          time.Time `json:"at,omitzero" doc:"of the last session"`
	Source      string    `json:"source,omitempty"`
	Serial      string    `json:"serial,omitempty"`
	Certificate []byte    `json:"certificate,omitempty" doc:"DER"`
	Attempts    int       `json:"attempts" doc:"that are left"`
}
