package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"redundancypool/manager/control"
)

type certificateCmd struct {
	Show    certificateShowCmd    `cmd:"" help:"Show the certificate of this node's pages and that of the virtual IP."`
	Install certificateInstallCmd `cmd:"" help:"Show a certificate of yours to browsers, at once."`
	Renew   certificateRenewCmd   `cmd:"" help:"Make this node's own certificate anew."`
	Reset   certificateResetCmd   `cmd:"" help:"Return to the certificate that this node makes itself."`
}

type certificateShowCmd struct {
	data
	JSON bool `help:"One JSON object."`
	PEM  bool `name:"pem" help:"The certificate of the pages itself, as PEM."`
}

func (c *certificateShowCmd) Run(ctx context.Context, con console) error {
	r, err := con.connect(c.Data).Certificate(ctx)
	if err != nil {
		return err
	}
	if c.PEM {
		_, err := io.WriteString(con.out, r.Page.PEM)
		return err
	}
	if c.JSON {
		raw, err := json.Marshal(r)
		if err != nil {
			return err
		}
		return printJSON(con.out, raw)
	}
	t := tabwriter.NewWriter(con.out, 0, 0, 2, ' ', 0)
	show := func(what string, i control.CertificateInfo) {
		fmt.Fprintf(t, "%s\nSubject\t%s\nIssued by\t%s\nNames\t%s\nValid\t%s to %s\nSHA-256\t%s\n", what, i.Subject, i.Issuer, strings.Join(i.Names, ", "),
			i.NotBefore.Format(time.DateOnly), i.NotAfter.Format(time.DateOnly), i.Fingerprint)
	}
	what := "Of the pages, made by this node itself"
	if r.Installed {
		what = "Of the pages, installed by a person"
	}
	show(what, r.Page)
	if r.VirtualIP != nil {
		show("\nOf the virtual IP", *r.VirtualIP)
	}
	for _, w := range r.Warnings {
		fmt.Fprintf(t, "\nTo know: %s\n", w)
	}
	return t.Flush()
}

type certificateInstallCmd struct {
	Certificate string `arg:"" type:"existingfile" help:"PEM file with the certificate and its chain."`
	Key         string `arg:"" optional:"" type:"existingfile" help:"PEM file with the key, if it is another one."`
	data
}

// maxPEM bounds what is read from a file.
const maxPEM = 64 << 10

func (c *certificateInstallCmd) Run(ctx context.Context, con console) error {
	read := func(path string) (string, error) {
		if path == "" {
			return "", nil
		}
		f, err := os.Open(path)
		if err != nil {
			return "", err
		}
		defer f.Close()
		text, err := io.ReadAll(io.LimitReader(f, maxPEM))
		return string(text), err
	}
	certificate, err := read(c.Certificate)
	if err != nil {
		return err
	}
	key, err := read(c.Key)
	if err != nil {
		return err
	}
	return con.done(con.connect(c.Data).InstallCertificate(ctx, certificate, key))
}

type certificateRenewCmd struct{ data }

func (c *certificateRenewCmd) Run(ctx context.Context, con console) error {
	return con.done(con.connect(c.Data).RenewCertificate(ctx))
}

type certificateResetCmd struct {
	data
	yes
}

func (c *certificateResetCmd) Run(ctx context.Context, con console) error {
	return con.confirmed(c.Yes, func(yes bool) (control.Done, error) { return con.connect(c.Data).ResetCertificate(ctx, yes) })
}
