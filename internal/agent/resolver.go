package agent

import "net/netip"

const resolvConf = "/etc/resolv.conf"

// nameServers tells programs in the box whom to ask for names. The file is the
// runtime's, as in a container of Docker: it is written at each start, and in
// the place of a link that leads to a resolver of a whole system. Without any
// server it stays what the image has.
func nameServers(servers []netip.Addr) error {
	if len(servers) == 0 {
		return nil
	}
	text := "# Written at each start of the box.\n"
	for _, s := range servers {
		text += "nameserver " + s.String() + "\n"
	}
	return replaceFile(resolvConf, []byte(text))
}
