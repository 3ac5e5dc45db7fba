package gvisor

import (
	"fmt"

	abi "gvisor.dev/gvisor/pkg/abi/linux"
	"gvisor.dev/gvisor/pkg/errors/linuxerr"
	"gvisor.dev/gvisor/pkg/fspath"
	"gvisor.dev/gvisor/pkg/sentry/arch"
	"gvisor.dev/gvisor/pkg/sentry/kernel"
	"gvisor.dev/gvisor/pkg/sentry/syscalls/linux"
	"gvisor.dev/gvisor/pkg/sentry/vfs"
)

// guardFileCapabilities lets only those give capabilities to files who have
// CAP_SETFCAP in the box. gVisor's overlay, which is the root of a box, asks the
// layer below in a name of its own, and so lets whoever may write to the file:
// any user could become root that way, and root could hand out what it has
// although it lacks CAP_SETFCAP.
//
// The name of an attribute is in the caller's memory, where another thread can
// change it from one look to the next. So the calls are replaced, and look once.
func guardFileCapabilities() error {
	calls := map[string]func(*kernel.Task, arch.SyscallArguments) error{
		"setxattr":  func(t *kernel.Task, args arch.SyscallArguments) error { return setXattr(t, args, true) },
		"lsetxattr": func(t *kernel.Task, args arch.SyscallArguments) error { return setXattr(t, args, false) },
		"fsetxattr": setXattrOfFD,
	}
	for _, table := range []*kernel.SyscallTable{linux.AMD64, linux.ARM64} {
		for name, f := range calls {
			number, err := table.LookupNo(name)
			if err != nil {
				return fmt.Errorf("sentry: %w", err)
			}
			call := table.Table[number]
			call.Fn = func(t *kernel.Task, _ uintptr, args arch.SyscallArguments) (uintptr, *kernel.SyscallControl, error) {
				return 0, nil, f(t, args)
			}
			table.Table[number] = call
		}
		table.Init() // once more: it makes an index of the table
	}
	return nil
}

// setXattr is setxattr(2), or lsetxattr(2), which does not follow a link.
func setXattr(t *kernel.Task, args arch.SyscallArguments, follow bool) error {
	text, err := t.CopyInString(args[0].Pointer(), abi.PATH_MAX)
	if err != nil {
		return err
	}
	if text == "" {
		return linuxerr.ENOENT
	}
	attr, err := attribute(t, args)
	if err != nil {
		return err
	}
	root := t.FSContext().RootDirectory()
	defer root.DecRef(t)
	start := t.FSContext().WorkingDirectory()
	defer start.DecRef(t)
	at := vfs.PathOperation{Root: root, Start: start, Path: fspath.Parse(text), FollowFinalSymlink: follow}
	if at.Path.Absolute {
		at.Start = root
	}
	return t.Kernel().VFS().SetXattrAt(t, t.Credentials(), &at, attr)
}

// setXattrOfFD is fsetxattr(2).
func setXattrOfFD(t *kernel.Task, args arch.SyscallArguments) error {
	file := t.GetFile(args[0].Int())
	if file == nil {
		return linuxerr.EBADF
	}
	defer file.DecRef(t)
	attr, err := attribute(t, args)
	if err != nil {
		return err
	}
	return file.SetXattr(t, attr)
}

// attribute copies in what is to be set, and refuses it to those who may not.
// Having the capability in a user namespace of one's own is not enough.
func attribute(t *kernel.Task, args arch.SyscallArguments) (*vfs.SetXattrOptions, error) {
	size, flags := args[3].SizeT(), args[4].Uint()
	name, err := t.CopyInString(args[1].Pointer(), abi.XATTR_NAME_MAX+1)
	switch {
	case flags&^(abi.XATTR_CREATE|abi.XATTR_REPLACE) != 0:
		return nil, linuxerr.EINVAL
	case linuxerr.Equals(linuxerr.ENAMETOOLONG, err), err == nil && name == "":
		return nil, linuxerr.ERANGE
	case err != nil:
		return nil, err
	case size > abi.XATTR_SIZE_MAX:
		return nil, linuxerr.E2BIG
	case name == abi.XATTR_SECURITY_CAPABILITY && !t.Credentials().HasRootCapability(abi.CAP_SETFCAP):
		return nil, linuxerr.EPERM
	}
	value := make([]byte, size)
	if _, err := t.CopyInBytes(args[2].Pointer(), value); err != nil {
		return nil, err
	}
	return &vfs.SetXattrOptions{Name: name, Value: string(value), Flags: flags}, nil
}
