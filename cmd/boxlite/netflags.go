package main

import (
	"fmt"
	"os"
	"strings"

	"github.com/boxlite-go/boxlite"
	"github.com/boxlite-go/boxlite/egress"
	"github.com/spf13/cobra"
)

// policyFlags say what a box may reach.
type policyFlags struct {
	mode  string
	allow []string
	deny  []string
}

func (f *policyFlags) register(cmd *cobra.Command) {
	fs := cmd.Flags()
	fs.StringVar(&f.mode, "network", "", "what the box may reach, a `MODE`: enabled, the public internet (default); allowlist, what --allow says; disabled, nothing")
	fs.StringArrayVar(&f.allow, "allow", nil, "let the box reach `[tcp:|udp:|icmp:]HOST[:PORTS]`, HOST being a name, *.name, an address or a prefix; needs --network; repeat")
	fs.StringArrayVar(&f.deny, "deny", nil, "keep the box from a `RULE` as of --allow, whatever is allowed; repeat")
	_ = cmd.RegisterFlagCompletionFunc("network", cobra.FixedCompletions([]string{"enabled", "allowlist", "disabled"}, cobra.ShellCompDirectiveNoFileComp))
}

// policy reads the flags. A rule to allow something means nothing much where
// all that is public is allowed, so whoever writes one says in which mode.
func (f *policyFlags) policy() (egress.Policy, error) {
	p := egress.Policy{Mode: egress.Mode(f.mode)}
	if len(f.allow) > 0 && f.mode == "" {
		return p, usagef("--allow needs --network: allowlist, so that the box reaches nothing else, or enabled, for a private address besides the public internet")
	}
	var err error
	if p.Allow, err = parseRules("--allow", f.allow); err != nil {
		return p, err
	}
	if p.Deny, err = parseRules("--deny", f.deny); err != nil {
		return p, err
	}
	if err := p.Check(); err != nil {
		return p, &usageError{err}
	}
	return p, nil
}

func parseRules(flag string, texts []string) (rules []egress.Rule, err error) {
	for _, s := range texts {
		r, err := egress.Parse(s)
		if err != nil {
			return nil, usagef("%s: %w", flag, err)
		}
		rules = append(rules, r)
	}
	return rules, nil
}

// networkFlags say what network a new box has.
type networkFlags struct {
	policyFlags
	publish []string
	secrets []string
}

func (f *networkFlags) register(cmd *cobra.Command) {
	f.policyFlags.register(cmd)
	fs := cmd.Flags()
	fs.StringArrayVarP(&f.publish, "publish", "p", nil, "publish a port of the box on this host, `[HOST_IP:][HOST:]BOX[/tcp|/udp]`, at 127.0.0.1 unless said otherwise; repeat")
	fs.StringArrayVar(&f.secrets, "secret", nil, "put the value of the variable NAME here into requests to HOST, and a placeholder into $BOXLITE_SECRET_NAME of the box, `NAME=HOST[,HOST]`; repeat")
}

// options adds what the flags say.
func (f *networkFlags) options(o *boxlite.BoxOptions) (err error) {
	if o.Network, err = f.policy(); err != nil {
		return err
	}
	for _, s := range f.publish {
		p, err := boxlite.ParsePort(s)
		if err != nil {
			return usagef("--publish: %w", err)
		}
		o.Ports = append(o.Ports, p)
	}
	for _, s := range f.secrets {
		name, hosts, _ := strings.Cut(s, "=")
		if name == "" || hosts == "" {
			return usagef("--secret %q: want NAME=HOST[,HOST]; the value is that of the variable NAME", s)
		}
		value, err := secretValue(name)
		if err != nil {
			return err
		}
		o.Secrets = append(o.Secrets, boxlite.Secret{Name: name, Value: value, Hosts: strings.Split(hosts, ",")})
	}
	return nil
}

// secretValue takes the value of a secret from the environment: an argument
// could be read by every user of this host.
func secretValue(name string) (string, error) {
	v := os.Getenv(name)
	if v == "" {
		return "", fmt.Errorf("--secret %s: the variable %s is not set here; it is where the value is taken from", name, name)
	}
	return v, nil
}

// secretFlag gives boxes that are started again the values of their secrets.
type secretFlag struct{ names []string }

func (f *secretFlag) register(cmd *cobra.Command) {
	cmd.Flags().StringArrayVar(&f.names, "secret", nil, "give a secret of the box the value of the variable `NAME` here; values are not stored; repeat")
}

func (f *secretFlag) set(box *boxlite.Box) error {
	for _, name := range f.names {
		v, err := secretValue(name)
		if err != nil {
			return err
		}
		if err := box.SetSecret(name, v); err != nil {
			return err
		}
	}
	return nil
}
