// Package duties is the list of what the owner of a site has to do for its local network to be ready for phones, as the published document of a Dedicated Instance assigns it, each with evidence: what the project's own tools found, and what somebody writes by hand.
//
// Nothing is taken for done that no tool saw and nobody signed. What is assigned to the operator of the service is left out.
package duties
