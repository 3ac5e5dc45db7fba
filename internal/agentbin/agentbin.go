// Package agentbin carries the guest agent inside the host binary.
package agentbin
