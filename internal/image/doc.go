// Package image keeps the images of one runtime home. It resolves references,
// pulls, verifies, flattens into EROFS, imports, saves and collects.
//
// The store is an OCI image layout with two directories of ours beside it:
//
//	oci-layout, index.json   what is here; index.json is replaced by rename
//	blobs/sha256/<hex>       manifests, configurations, layers, as pulled
//	rootfs/<hex>.erofs       flattened layers, by digest of the configuration
//	tmp/                     what is being made; a lock on each file says who lives
//	lock                     held while index.json or the set of blobs changes
//
// Any number of processes use it at once. A crash at any moment leaves a store
// that works: whatever is named by its content was complete and on stable
// storage before it got the name, and index.json names only such files.
package image
