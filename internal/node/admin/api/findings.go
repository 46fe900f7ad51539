package api

import "time"

// NewFinding is something that was found out about a site elsewhere, and is handed in.
type NewFinding struct {
	Kind    string         `json:"kind" enum:"posture,firewall" doc:"posture: what a TLS server accepts, as tls probe --json prints it; firewall: a record of network watch --json"`
	Subject string         `json:"subject" minLength:"1" maxLength:"255" doc:"what was looked at" example:"sbc.example.com:5061"`
	Verdict string         `json:"verdict" enum:"good,bad,unknown" doc:"in short"`
	Finding map[string]any `json:"finding" doc:"all of it"`
}

// FindingKept is a finding that is kept, in short.
type FindingKept struct {
	ID      string    `json:"id"`
	Site    string    `json:"site" example:"seoul"`
	Kind    string    `json:"kind"`
	Subject string    `json:"subject"`
	Verdict string    `json:"verdict"`
	Kept    time.Time `json:"kept" doc:"when it was handed in"`
	By      string    `json:"by" doc:"who handed it in"`
}

// Finding is a finding that is kept, with all of it.
type Finding struct {
	FindingKept
	Finding map[string]any `json:"finding"`
}
