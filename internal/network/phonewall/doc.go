// Package phonewall compares what a desk phone's own firewall leaves open with what a set of requirements needs of the phone, and with what the site's firewall lets in to it.
//
// A port of the phone is needed if a row opens it from elsewhere. If the phone itself sends from it, as rows that name their source ports say, then what comes there are answers, and both firewalls know them by their
// connection. Whatever else stands open is open for nobody. Media rows name a range out of which the phone takes what it likes, since it tells the other side which ports: they are met by any part of the range.
package phonewall
