// Package enginetest judges engines and offers a fake one for tests of what is
// above them.
package enginetest
