package wire

import (
	"net/url"
	"strings"
)

// PathSegment spells an id as one segment of a path. Those that a path takes for
// steps are spelt so that they are none.
func PathSegment(id string) string {
	if id == "." || id == ".." {
		return strings.ReplaceAll(id, ".", "%2E")
	}
	return url.PathEscape(id)
}
