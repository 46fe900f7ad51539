// Package profilerule reads the rules by which a multiplatform desk phone finds its files, and expands their macros.
//
// A rule is a list of alternatives, of which the first counts whose condition holds:
//
//	rule        = alternative *( "|" alternative )
//	alternative = [ "(" condition ")" "?" ] [ "[" *( ( "--key" / "--uid" / "--pwd" ) word ) "]" ] url
//	condition   = comparison *( ( "and" / "or" ) comparison )
//	comparison  = "(" condition ")" / operand ( "lt" / "le" / "gt" / "ge" / "eq" / "ne" ) operand
//
// Operands are numbers, versions, strings in quotation marks, and macros. A rule is read first and macros are expanded then, in the pieces:
// what a macro brings is never syntax, whoever set it. The secrets $SA to $SD are known within the brackets only.
package profilerule
