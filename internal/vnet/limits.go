package vnet

import "time"

// What one box can make us hold. The numbers are far above what a program needs
// and low enough that a hostile box costs the host some hundreds of megabytes at
// the very most.
const (
	maxTCP      = 4096 // TCP connections, both directions together
	maxUDP      = 1024 // UDP flows, both directions together
	maxConnects = 512  // TCP connections of the box that are not yet established
	maxPings    = 64   // destinations pinged at once, each a socket of the host
	maxQueries  = 64   // questions to the resolver at once
	maxQuery    = 4096 // bytes of a question over UDP; one name and some options are a tenth of it
	maxEvents   = 256  // events that wait to be recorded; then flows wait

	connectTimeout = 10 * time.Second // then a connection counts as refused
	udpIdle        = 60 * time.Second // a UDP flow without a datagram ends
	dnsIdle        = 10 * time.Second // the same to port 53: one question, one answer
	pingIdle       = 10 * time.Second // the same for a ping, whose answer takes less

	// lingerTime is how long a box may leave the end of a connection, that the
	// other side has closed, lying unread. Linux gives an orphan about as long.
	lingerTime = 2 * time.Minute

	// timeWait is how long a closed connection is remembered. Until then a
	// connection from the same port of the box is not heard, and the box tries
	// again only after a second. Late segments, which it guards against, do not
	// happen on a wire that keeps the order.
	timeWait = time.Millisecond

	// halfTime is how long a box may keep a connection open that the other side
	// has closed, and has nothing more to say on.
	halfTime = 5 * time.Second

	// retryTime is how long a listener waits that the host gives no connection.
	retryTime = 100 * time.Millisecond

	// abortTime is how often the end of a network looks for connections that
	// began while it was at it. It mostly looks once.
	abortTime = 5 * time.Millisecond

	// spoofNote is how often packets from a wrong address are recorded.
	spoofNote = time.Second
)

// Buffers of a TCP connection, in bytes for each direction: as large as makes the
// link fast while there are few connections, smaller when there are many. With
// 1 MiB a GB costs 1.5 s of processor at both ends together; with 256 KiB it is
// 2.4 s, since the sender stops and is woken more often, and 4 MiB saves nothing. A
// connection is given the size of the first line that has room for all that are
// open, so together they never take more than 32 x 1 MiB + 96 x 256 KiB + 384 x
// 64 KiB + 3584 x 32 KiB = 192 MiB for a direction, and only what is not read.
var bufferSizes = []struct {
	open int
	size int64
}{
	{32, 1 << 20},
	{128, 256 << 10},
	{512, 64 << 10},
	{maxTCP, 32 << 10},
}

// bufferSize returns the size for a connection when so many are open, itself
// included.
func bufferSize(open int) int64 {
	for _, b := range bufferSizes {
		if open <= b.open {
			return b.size
		}
	}
	return bufferSizes[len(bufferSizes)-1].size
}
