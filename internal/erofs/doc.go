// Package erofs writes EROFS images straight from tar streams, in the subset
// that gVisor's reader and Linux both accept: uncompressed, no inline file
// data, no chunks.
package erofs
