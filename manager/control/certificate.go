package control

import (
	"context"
	"encoding/json"
	"time"
)

// Certificates are what browsers see of this node. Those between the members are no part of it.
type Certificates interface {
	// Certificate describes the certificate of this node's pages and that of the virtual IP.
	Certificate(ctx context.Context) (CertificateReport, error)
	// InstallCertificate shows a certificate (PEM, with its chain) and key that somebody brought, at once.
	// The key may stand in the same text. What is allowed but should be known is in the message.
	InstallCertificate(ctx context.Context, certificate, key string) (Done, error)
	// RenewCertificate makes this node's own certificate anew.
	RenewCertificate(ctx context.Context) (Done, error)
	// ResetCertificate returns to the one that this node makes itself.
	ResetCertificate(ctx context.Context, yes bool) (Done, error)
}

// CertificateReport describes the certificates of the pages.
type CertificateReport struct {
	Installed bool             `json:"installed"`  // somebody brought it; else this node made it itself
	Page      CertificateInfo  `json:"page"`       // on this node's own addresses
	VirtualIP *CertificateInfo `json:"virtual_ip"` // null: this node belongs to no pool
	Warnings  []string         `json:"warnings"`
}

// CertificateInfo describes one certificate.
type CertificateInfo struct {
	Subject     string    `json:"subject"`
	Issuer      string    `json:"issuer"`
	Names       []string  `json:"names"` // DNS names and addresses
	NotBefore   time.Time `json:"not_before"`
	NotAfter    time.Time `json:"not_after"`
	Fingerprint string    `json:"fingerprint"` // SHA-256 of the whole certificate, as browsers show it
	PEM         string    `json:"pem"`         // with its chain; never the key
}

// certificateRequest is the JSON of the operations above.
type certificateRequest struct {
	Certificate string `json:"certificate,omitempty"`
	Key         string `json:"key,omitempty"`
	Yes         bool   `json:"yes,omitempty"`
}

// certificateOps returns the operations of c for ManagerOps.
func certificateOps(c Certificates) map[string]Handler {
	with := func(do func(context.Context, certificateRequest) (any, error)) Handler {
		return func(ctx context.Context, in json.RawMessage, _ func(any) error) (any, error) {
			var r certificateRequest
			if err := decodeRequest(in, &r); err != nil {
				return nil, err
			}
			return do(ctx, r)
		}
	}
	return map[string]Handler{
		"certificate/show": with(func(ctx context.Context, _ certificateRequest) (any, error) { return c.Certificate(ctx) }),
		"certificate/install": with(func(ctx context.Context, r certificateRequest) (any, error) {
			return c.InstallCertificate(ctx, r.Certificate, r.Key)
		}),
		"certificate/renew": with(func(ctx context.Context, _ certificateRequest) (any, error) { return c.RenewCertificate(ctx) }),
		"certificate/reset": with(func(ctx context.Context, r certificateRequest) (any, error) { return c.ResetCertificate(ctx, r.Yes) }),
	}
}

// Certificate implements Certificates.
func (r *Remote) Certificate(ctx context.Context) (CertificateReport, error) {
	return call[CertificateReport](ctx, r, "certificate/show", certificateRequest{})
}

// InstallCertificate implements Certificates.
func (r *Remote) InstallCertificate(ctx context.Context, certificate, key string) (Done, error) {
	return call[Done](ctx, r, "certificate/install", certificateRequest{Certificate: certificate, Key: key})
}

// RenewCertificate implements Certificates.
func (r *Remote) RenewCertificate(ctx context.Context) (Done, error) {
	return call[Done](ctx, r, "certificate/renew", certificateRequest{})
}

// ResetCertificate implements Certificates.
func (r *Remote) ResetCertificate(ctx context.Context, yes bool) (Done, error) {
	return call[Done](ctx, r, "certificate/reset", certificateRequest{Yes: yes})
}
