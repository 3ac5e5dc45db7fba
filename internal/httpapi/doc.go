// Package httpapi is what the HTTP dialects of boxlite share: listeners and who
// may use them, keys and scopes, the envelope of errors, strict JSON, request
// ids, the access log, and an orderly end. It knows no box.
package httpapi
