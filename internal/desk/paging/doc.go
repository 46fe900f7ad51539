// Package paging says things to many desk phones at once, and hears what is said so, by multicast RTP (Group_Paging_Script): who may listen, what goes before what, and what a page does to a call.
//
// Such pages are neither sealed nor signed: whoever is on the network hears them, and can make phones speak. So nothing of it happens unless the profile says so by name ([Of]).
package paging
