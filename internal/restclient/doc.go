// Package restclient carries requests to a server of the REST dialect: JSON,
// streams both ways, WebSockets, and connections to ports of boxes. It knows
// nothing of what they mean. What a server sends is bounded.
package restclient
