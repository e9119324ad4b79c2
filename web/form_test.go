package web

import (
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
)

// form is a request with a form, its token and the visitor's cookies.
func form(v *visitor, pairs ...string) func(*http.Request) {
	values := url.Values{"_token": {v.token}}
	for i := 0; i < len(pairs); i += 2 {
		values.Set(pairs[i], pairs[i+1])
	}
	return func(r *http.Request) {
		for name, value := range v.cookies {
			r.AddCookie(&http.Cookie{Name: name, Value: value})
		}
		text := values.Encode()
		r.Body, r.ContentLength = io.NopCloser(strings.NewReader(text)), int64(len(text))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
}

// jsonBody is a request with a JSON body and a login.
func jsonBody(text string) func(*http.Request) {
	return func(r *http.Request) {
		r.SetBasicAuth("ann", "right")
		r.Header.Set("Content-Type", "application/json")
		r.Body, r.ContentLength = io.NopCloser(strings.NewReader(text)), int64(len(text))
	}
}

// checkDocument compares an answer with its schema in the API document.
func checkDocument(t *testing.T, s *Server, schema, text string) {
	t.Helper()
	var doc struct {
		Components struct {
			Schemas map[string]json.RawMessage
		}
	}
	if err := json.Unmarshal([]byte(body(t, ask(s, here, "GET", "/api/v1/openapi.json", nil))), &doc); err != nil {
		t.Fatal(err)
	}
	var object any
	if err := json.Unmarshal([]byte(text), &object); err != nil {
		t.Fatal(err)
	}
	checkObject(t, schema, doc.Components.Schemas[schema], object)
}
