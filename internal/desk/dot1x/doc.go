// Package dot1x lets a desk phone into a network that asks who it is (IEEE 802.1X), and speaks for the computer behind it that has left.
//
// The supplicant is wpa_supplicant: this room writes its configuration, and speaks to it over its control socket. A computer at the phone's PC port proves itself to the switch:
// its frames pass through the phone, and when its link goes down the phone sends the EAPOL-Logoff that the computer cannot send any more.
package dot1x
