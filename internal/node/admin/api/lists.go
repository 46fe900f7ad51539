package api

import (
	"time"

	"ringfence/internal/trust/trustlist"
)

// TrustLists is what is published to enterprise phones.
type TrustLists struct {
	Version int64              `json:"version"`
	Made    time.Time          `json:"made"`
	Note    string             `json:"note" doc:"why it was made"`
	Waiting string             `json:"waiting,omitempty" doc:"why a newer list is not published yet"`
	Signer  string             `json:"signer"`
	Records []trustlist.Record `json:"records"`
	Devices []ListHolder       `json:"devices" doc:"who is known to hold which version"`
	Files   map[string][]byte  `json:"files" doc:"the lists themselves: itl, ctl and json"`
}

// ListHolder is what a device fetched last.
type ListHolder struct {
	Device  string    `json:"device"`
	Kind    string    `json:"kind" enum:"itl,ctl,json"`
	Version int64     `json:"version"`
	Fetched time.Time `json:"fetched"`
	Proved  bool      `json:"proved" doc:"by its certificate; otherwise by the name of the file that it asked for"`
}

// ListPlan says what publishing would do, or did.
type ListPlan struct {
	Changes bool               `json:"changes" doc:"whether it says something else than what is published"`
	Signer  string             `json:"signer" enum:"a,b" doc:"which of the two signs it"`
	Added   []trustlist.Record `json:"added"`
	Removed []trustlist.Record `json:"removed"`
	Held    []HeldList         `json:"held" doc:"by version, the latest first"`
	Lost    int                `json:"lost" doc:"how many known devices would be lost"`
}

// HeldList is what devices that hold a version would make of the new list.
type HeldList struct {
	Version int64        `json:"version"`
	Devices []ListHolder `json:"devices"`
	Taken   bool         `json:"taken"`
	Lost    bool         `json:"lost"`
	Why     string       `json:"why"`
}

// PublishLists publishes a list that waits.
type PublishLists struct {
	Force bool `json:"force,omitempty" doc:"although phones are lost by it"`
}

// RotateSigner replaces one of the two signers.
type RotateSigner struct {
	Signer string `json:"signer" enum:"a,b"`
	Force  bool   `json:"force,omitempty" doc:"although phones are lost by it"`
}
