// Package quota counts what each source does in a while, and says how long one that did too much has to wait.
package quota
