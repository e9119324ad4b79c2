package manager

import (
	"fmt"
	"reflect"
	"time"

	"redundancypool/manager/settings"
)

// settingsValues is the inverse of settings.Settings.Apply: every value by its key in the file.
func settingsValues(s settings.Settings) map[string]string {
	out := map[string]string{}
	collectValues(out, "", reflect.ValueOf(s))
	return out
}

func collectValues(out map[string]string, prefix string, v reflect.Value) {
	for i := range v.NumField() {
		key := prefix + v.Type().Field(i).Tag.Get("toml")
		switch f := v.Field(i).Interface().(type) {
		case time.Duration:
			out[key] = f.String()
		case interface{ MarshalText() ([]byte, error) }: // an address; the invalid one is empty
			text, _ := f.MarshalText()
			out[key] = string(text)
		default:
			if v.Field(i).Kind() == reflect.Struct {
				collectValues(out, key+".", v.Field(i))
				continue
			}
			out[key] = fmt.Sprint(f)
		}
	}
}
