package gvisor

import (
	"encoding/binary"
	"fmt"
	"os"

	"google.golang.org/protobuf/proto"
	"gvisor.dev/gvisor/pkg/hostarch"
	checkpointpb "gvisor.dev/gvisor/pkg/sentry/fscheckpoint/fscheckpoint_proto_go_proto"
	metapb "gvisor.dev/gvisor/pkg/sentry/pgalloc/pgalloc_metadata_go_proto"

	"github.com/boxlite-go/boxlite/gvisor/internal/blocks"
)

// pagesMeta is what gVisor saves of the upper file, but for the contents.
type pagesMeta struct {
	list *checkpointpb.Manifest
	meta *metapb.MemoryFileMetadataProto
}

// readPagesMeta reads it from the files of a layer, of which man knows the sizes.
func readPagesMeta(files []*os.File, man *manifest) (*pagesMeta, error) {
	checkpoint, meta := files[checkpointFile], files[metaFile]
	b, err := readAll(checkpoint, man.Files[checkpointFile].Size)
	if err != nil {
		return nil, err
	}
	var list checkpointpb.Manifest
	if err := proto.Unmarshal(b, &list); err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrDamaged, checkpoint.Name(), err)
	}
	if b, err = readAll(meta, man.Files[metaFile].Size); err != nil {
		return nil, err
	}
	// A machine has one file system that is saved, so its part of each file
	// is the whole.
	if n := len(list.MemoryFiles); n != 1 {
		return nil, fmt.Errorf("%d file systems have been saved, want 1", n)
	}
	f := list.MemoryFiles[0]
	if f.PagesStart != 0 || f.PagesMetadataStart != 0 || f.PagesMetadataEnd != uint64(len(b)) {
		return nil, fmt.Errorf("%w: %s: parts of files", ErrDamaged, checkpoint.Name())
	}
	if len(b) < lengthBytes || binary.LittleEndian.Uint64(b) != uint64(len(b)-lengthBytes) {
		return nil, fmt.Errorf("%w: %s is cut off", ErrDamaged, meta.Name())
	}
	var pb metapb.MemoryFileMetadataProto
	if err := proto.Unmarshal(b[lengthBytes:], &pb); err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrDamaged, meta.Name(), err)
	}
	if list.Version != checkpointVersion || pb.Version != metaVersion || list.PageSize != hostarch.PageSize {
		return nil, fmt.Errorf("the layer was saved by gVisor %s in its format %d.%d, in pages of %d; this one, %s, reads %d.%d, in pages of %d: run the version of boxlite that saved it",
			man.Engine, list.Version, pb.Version, list.PageSize, Version(), checkpointVersion, metaVersion, hostarch.PageSize)
	}
	return &pagesMeta{&list, &pb}, nil
}

// lengthBytes of the metadata say how long the rest is.
const lengthBytes = 8

// ranges lists the parts of the upper file that have contents.
func (m *pagesMeta) ranges() []blocks.Range {
	var out []blocks.Range
	for _, r := range m.meta.MemAcct {
		if !r.KnownCommitted {
			continue
		}
		from, to := int64(r.Start), int64(r.End) // judged by who uses them
		if last := len(out) - 1; last >= 0 && out[last].End == from {
			out[last].End = to
		} else {
			out = append(out, blocks.Range{Start: from, End: to})
		}
	}
	return out
}

// forSentry makes files like those m was read from, for a sentry that shall
// read no contents: they will be in the upper file.
func (m *pagesMeta) forSentry() (checkpoint, meta *os.File, err error) {
	for _, r := range m.meta.MemAcct {
		r.KnownCommitted = false
	}
	b, err := proto.Marshal(m.meta)
	if err != nil {
		return nil, nil, err
	}
	b = append(binary.LittleEndian.AppendUint64(nil, uint64(len(b))), b...)
	m.list.MemoryFiles[0].PagesMetadataEnd = uint64(len(b))
	list, err := proto.Marshal(m.list)
	if err != nil {
		return nil, nil, err
	}
	if checkpoint, err = memFile("checkpoint", list); err != nil {
		return nil, nil, err
	}
	if meta, err = memFile("pages.meta", b); err != nil {
		checkpoint.Close()
	}
	return checkpoint, meta, err
}
