// Package follow is what CTI clients see of calls and users: it joins the rooms of calls to service/cti.
package follow
