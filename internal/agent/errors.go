package agent

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/boxlite-go/boxlite/internal/guest"
)

// maxMessage bounds what an error tells the host, in bytes.
const maxMessage = 2048

func fail(kind guest.Kind, format string, args ...any) *guest.Error {
	msg := fmt.Sprintf(format, args...)
	if len(msg) > maxMessage {
		msg = msg[:maxMessage] + "..."
	}
	return &guest.Error{Kind: kind, Message: strings.ToValidUTF8(msg, "?")}
}

// remote is err as the host gets it.
func remote(err error) *guest.Error {
	var e *guest.Error
	if errors.As(err, &e) {
		return e
	}
	return fail(kindOf(err), "%v", err)
}

func kindOf(err error) guest.Kind {
	switch {
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT):
		return guest.KindNoSpace
	case errors.Is(err, unix.EMFILE), errors.Is(err, unix.ENFILE):
		return guest.KindBusy
	case errors.Is(err, unix.ENOTDIR):
		return guest.KindNotDir
	case errors.Is(err, unix.EISDIR):
		return guest.KindIsDir
	case errors.Is(err, unix.ENOTEMPTY), errors.Is(err, fs.ErrExist):
		return guest.KindExists
	case errors.Is(err, fs.ErrNotExist):
		return guest.KindNotFound
	case errors.Is(err, fs.ErrPermission), errors.Is(err, unix.EROFS):
		return guest.KindPermission
	case errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENAMETOOLONG), errors.Is(err, unix.ELOOP):
		return guest.KindInvalid
	}
	return guest.KindFailed
}
