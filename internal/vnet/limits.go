package vnet

import "time"

// What one box can make us hold. The numbers are far above what a program needs
// and low enough that a hostile box costs the host tens of megabytes, not more.
const (
	maxTCP      = 4096 // TCP connections, both directions together
	maxUDP      = 1024 // UDP flows, both directions together
	maxConnects = 512  // of these TCP connections, not yet established
	maxPings    = 64   // destinations pinged at once, each a socket of the host

	connectTimeout = 10 * time.Second // then a connection counts as refused
	udpIdle        = 60 * time.Second // a UDP flow without a datagram ends
	dnsIdle        = 10 * time.Second // the same to port 53: one question, one answer
	pingIdle       = 10 * time.Second // the same for a ping, whose answer takes less
)
