package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strings"
)

type queryCmd struct {
	SQL string `arg:"" name:"sql" help:"One SELECT; views: sample, event, unit, tag, alarm."`
	data
	JSON bool `help:"One JSON object a row instead of columns separated by '|'."`
}

// Run prints one row a line as it comes. In plain form NULL is empty, and a line end inside a
// value is printed as \n, so that a row stays one line.
func (q *queryCmd) Run(ctx context.Context, con console) error {
	out := bufio.NewWriter(con.out)
	var names []string
	err := con.connect(q.Data).Query(ctx, q.SQL,
		func(columns []string) error { names = columns; return nil },
		func(row []any) error {
			if q.JSON {
				line, err := rowObject(names, row)
				if err != nil {
					return err
				}
				_, err = out.Write(line)
				return err
			}
			_, err := out.WriteString(rowText(row) + "\n")
			return err
		})
	if ferr := out.Flush(); err == nil {
		err = ferr
	}
	return err
}

var lineEnds = strings.NewReplacer("\n", `\n`, "\r", `\r`)

func rowText(row []any) string {
	columns := make([]string, len(row))
	for i, v := range row {
		if v != nil {
			columns[i] = lineEnds.Replace(fmt.Sprint(v))
		}
	}
	return strings.Join(columns, "|")
}

// rowObject keeps the columns in their order.
func rowObject(names []string, row []any) ([]byte, error) {
	var b bytes.Buffer
	b.WriteByte('{')
	for i, v := range row {
		name := fmt.Sprintf("column%d", i+1)
		if i < len(names) {
			name = names[i]
		}
		key, err := json.Marshal(name)
		if err != nil {
			return nil, err
		}
		value, err := json.Marshal(v)
		if err != nil {
			return nil, err
		}
		if i > 0 {
			b.WriteByte(',')
		}
		b.Write(key)
		b.WriteByte(':')
		b.Write(value)
	}
	b.WriteString("}\n")
	return b.Bytes(), nil
}
