package notify

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Values returns every value by its key, as a form has it.
func (c Config) Values() map[string]string {
	return map[string]string{
		"kinds": strings.Join(c.Kinds, ","), "quiet_minutes": strconv.Itoa(c.QuietMinutes),
		"webhook.enabled": strconv.FormatBool(c.Webhook.Enabled), "webhook.url": c.Webhook.URL,
		"webhook.allow_http": strconv.FormatBool(c.Webhook.AllowHTTP), "webhook.ca": c.Webhook.CA,
		"email.enabled": strconv.FormatBool(c.Email.Enabled), "email.server": c.Email.Server, "email.security": c.Email.Security,
		"email.username": c.Email.Username, "email.from": c.Email.From, "email.to": strings.Join(c.Email.To, ", "), "email.ca": c.Email.CA,
	}
}

// Apply returns c with values put over it. A FieldError for a key that is not known or a value that
// cannot be read; whether it can be used is Validate's business.
func (c Config) Apply(values map[string]string) (Config, error) {
	c.Kinds, c.Email.To = slices.Clone(c.Kinds), slices.Clone(c.Email.To)
	for key, text := range values {
		text = strings.TrimSpace(text)
		var err error
		switch key {
		case "kinds":
			c.Kinds = split(text)
		case "quiet_minutes":
			c.QuietMinutes, err = strconv.Atoi(text)
		case "webhook.enabled":
			c.Webhook.Enabled, err = strconv.ParseBool(text)
		case "webhook.url":
			c.Webhook.URL = text
		case "webhook.allow_http":
			c.Webhook.AllowHTTP, err = strconv.ParseBool(text)
		case "webhook.ca":
			c.Webhook.CA = text
		case "email.enabled":
			c.Email.Enabled, err = strconv.ParseBool(text)
		case "email.server":
			c.Email.Server = text
		case "email.security":
			c.Email.Security = text
		case "email.username":
			c.Email.Username = text
		case "email.from":
			c.Email.From = text
		case "email.to":
			c.Email.To = split(text)
		case "email.ca":
			c.Email.CA = text
		default:
			return c, &FieldError{key, "unknown", fmt.Sprintf("there is no value %.40q", key), "use those of \"manager notify list\""}
		}
		if err != nil {
			return c, &FieldError{key, "invalid", fmt.Sprintf("%.40q cannot be read", text), "use a number, or true or false"}
		}
	}
	return c, nil
}

func split(text string) []string {
	return strings.FieldsFunc(text, func(r rune) bool { return strings.ContainsRune(", \n\r\t;", r) })
}
