// Package noninterference checks that what a tenant observes does not depend on
// other tenants: for a space A, any script of operations on A and any scripts on
// other spaces, A's view of running both is, byte for byte, its view of running
// its own alone (Goguen and Meseguer, Security policies and security models,
// 1982). It knows scripts, how to run and how to compare them, and nothing of
// what runs them: each layer brings a [Driver].
package noninterference
