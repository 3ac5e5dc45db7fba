// Empty: lets the compiler accept a function without a body (go:linkname).
