package wire

// Traceparent is the field of a request that names the caller's span (W3C Trace
// Context).
const Traceparent = "traceparent"
