package settings

import (
	"encoding"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Apply returns s with values put over it, by the keys of the file ("mode", "local.address",
// "timing.heartbeat_period"), each written as in the file but without quotes; "none" or an empty
// text clears an address. It is how a form and a command line hand their fields over.
//
// Error: Errors for keys that do not exist and values that cannot be read. The result is not
// validated.
func (s Settings) Apply(values map[string]string) (Settings, error) {
	var e Errors
	for _, key := range slices.Sorted(maps.Keys(values)) {
		field, ok := fieldByKey(reflect.ValueOf(&s).Elem(), key)
		if !ok {
			e.add(key, "invalid", "there is no such setting", "look the keys up in "+FileName)
			continue
		}
		if err := setField(field, values[key]); err != nil {
			e.add(key, "invalid", fmt.Sprintf("%.80q %v", values[key], err), "correct the value")
		}
	}
	if len(e) > 0 {
		return Settings{}, e
	}
	return s, nil
}

// fieldByKey finds a field by the names in the toml tags.
func fieldByKey(v reflect.Value, key string) (reflect.Value, bool) {
	name, rest, deeper := strings.Cut(key, ".")
	for i := range v.NumField() {
		if v.Type().Field(i).Tag.Get("toml") != name {
			continue
		}
		field := v.Field(i)
		_, isText := field.Addr().Interface().(encoding.TextUnmarshaler)
		isTable := field.Kind() == reflect.Struct && !isText
		switch {
		case deeper && isTable:
			return fieldByKey(field, rest)
		case !deeper && !isTable:
			return field, true
		}
		return reflect.Value{}, false
	}
	return reflect.Value{}, false
}

func setField(field reflect.Value, text string) error {
	switch p := field.Addr().Interface().(type) {
	case encoding.TextUnmarshaler:
		if text == "none" {
			text = ""
		}
		if p.UnmarshalText([]byte(text)) != nil {
			if strings.HasSuffix(field.Type().Name(), "Prefix") {
				return fmt.Errorf("is not an address with a prefix length, like 10.0.0.50/24")
			}
			return fmt.Errorf("is not an IP address")
		}
		return nil
	case *time.Duration:
		d, err := time.ParseDuration(text)
		if err != nil {
			return fmt.Errorf("is not a time with its unit, like 25ms or 10s")
		}
		*p = d
		return nil
	}
	switch field.Kind() {
	case reflect.String:
		field.SetString(text)
	case reflect.Bool:
		b, err := strconv.ParseBool(text)
		if err != nil {
			return fmt.Errorf("is neither true nor false")
		}
		field.SetBool(b)
	case reflect.Uint16:
		n, err := strconv.ParseUint(text, 10, 16)
		if err != nil {
			return fmt.Errorf("is not a port between 0 and 65535")
		}
		field.SetUint(n)
	case reflect.Int:
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return fmt.Errorf("is not a whole number")
		}
		field.SetInt(n)
	default:
		return fmt.Errorf("cannot be set")
	}
	return nil
}
