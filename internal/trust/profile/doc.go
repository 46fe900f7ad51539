// Package profile says how securely phones and trunks must speak: the cluster's security mode, phone security profiles and trunk security profiles, in the sense
// of seed document 002.
//
// It only holds and checks what an administrator wrote; the rooms that register phones and carry trunks go by it. There is no profile by which anything
// speaks in the clear for good.
package profile
