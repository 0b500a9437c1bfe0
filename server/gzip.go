package server

import (
	"bytes"
	"compress/gzip"
	"strconv"
	"strings"
)

// minGzipBytes is the least answer that is worth compressing: less fits one
// packet anyway.
const minGzipBytes = 1 << 10

// compress returns the body compressed, if the client takes that and it is
// shorter so.
func (x *exchange) compress(body []byte) ([]byte, bool) {
	if len(body) < minGzipBytes {
		return nil, false
	}
	x.w.Header().Add("Vary", "Accept-Encoding")
	if !acceptsGzip(x.r.Header.Values("Accept-Encoding")) {
		return nil, false
	}
	var out bytes.Buffer
	zipper := gzip.NewWriter(&out)
	_, err := zipper.Write(body)
	if err == nil {
		err = zipper.Close()
	}
	return out.Bytes(), err == nil && out.Len() < len(body)
}

// acceptsGzip reads Accept-Encoding: "*" stands for what is not named, and a
// quality of 0 refuses.
func acceptsGzip(values []string) bool {
	others := false
	for _, part := range strings.Split(strings.Join(values, ","), ",") {
		coding, parameters, _ := strings.Cut(part, ";")
		switch strings.ToLower(strings.TrimSpace(coding)) {
		case "gzip", "x-gzip":
			return wanted(parameters)
		case "*":
			others = wanted(parameters)
		}
	}
	return others
}

// wanted reports whether the quality among the parameters is more than 0.
func wanted(parameters string) bool {
	name, value, found := strings.Cut(strings.TrimSpace(parameters), "=")
	if !found || !strings.EqualFold(strings.TrimSpace(name), "q") {
		return true
	}
	quality, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
	return err == nil && quality > 0
}
