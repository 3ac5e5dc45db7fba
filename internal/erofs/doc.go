// Package erofs writes EROFS images straight from tar streams, in the subset
// that gVisor's reader and Linux both accept: uncompressed, no inline file
// data, no chunks, no extended attributes.
//
// Nothing of a tar ever becomes a name on the host: the tree is kept in memory
// and only file contents go to the one output file. So owners, setuid bits and
// links need no privilege, and a hostile layer has nothing to escape to.
//
// Extended attributes are dropped, file capabilities included: gVisor refuses
// every inode that has any (ENOTSUP), so keeping them would make the file
// unusable rather than more capable.
package erofs
