package api

import (
	"time"

	"ringfence/internal/network/ready/verdict"
)

// ReadinessKept is a readiness test that is kept, in short.
type ReadinessKept struct {
	ID         string          `json:"id"`
	Site       string          `json:"site" example:"seoul"`
	Kept       time.Time       `json:"kept" doc:"when it was handed in"`
	By         string          `json:"by" doc:"who handed it in"`
	Set        string          `json:"set" example:"webex-calling"`
	SetVersion string          `json:"set_version,omitempty"`
	Began      time.Time       `json:"began"`
	Ended      time.Time       `json:"ended"`
	Reflector  string          `json:"reflector"`
	SeenAs     string          `json:"seen_as" doc:"the address of the site as the reflector saw it"`
	Outcome    verdict.Outcome `json:"outcome" enum:"ready,ready and it could be better,not ready,inconclusive"`
	Passed     int             `json:"passed"`
	Failed     int             `json:"failed"`
	Warned     int             `json:"warned"`
	Skipped    int             `json:"skipped"`
	Failures   []string        `json:"failures" doc:"the checks of what is needed that failed"`
}

// Readiness is a readiness test that is kept, with all that it found.
type Readiness struct {
	ReadinessKept
	Report verdict.Report `json:"report"`
}
