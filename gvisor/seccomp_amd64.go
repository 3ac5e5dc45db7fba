package gvisor

import _ "embed"

//go:embed seccomp_amd64.gob
var seccompPrograms []byte
