// Package verdict says what a readiness test found: check by check with what to change, as data, text, JUnit and a page that stands alone.
package verdict
