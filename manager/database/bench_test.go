package database

import (
	"context"
	"database/sql"
	"fmt"
	"path/filepath"
	"testing"
)

// BenchmarkApply measures readings per second through Apply; BenchmarkPlainInsert the same
// number of bare rows through SQLite alone, one writer, same settings.
func BenchmarkApply(b *testing.B) {
	for _, size := range []int{1, 100, 1000} {
		for _, numbered := range []bool{true, false} {
			b.Run(fmt.Sprintf("rows=%d/seq=%v", size, numbered), func(b *testing.B) {
				s := openStore(b, "")
				must(b, s, cmd(1, UnitAdd{Name: "u"}))
				b.ReportAllocs()
				index, n := uint64(1), 0
				for b.Loop() {
					b.StopTimer()
					index++
					r := record("u", 0, int64(index))
					if numbered {
						r = record("u", index, int64(index))
					}
					var all TelemetryBatch
					for i := range size { // ten readings a record
						if i > 0 && i%10 == 0 {
							all.Records = append(all.Records, r)
							r.Readings = nil
							r.Group = fmt.Sprint("g", i)
							r.Seq = index + uint64(i)<<32
						}
						r.Readings = append(r.Readings, record("", 0, 0, float64(index)).Readings...)
						r.Readings[len(r.Readings)-1].Tag = fmt.Sprint("t", i)
					}
					all.Records = append(all.Records, r)
					e := entry(b, index, cmd(index, all))
					b.StartTimer()
					if _, err := s.Apply(context.Background(), []Entry{e}); err != nil {
						b.Fatal(err)
					}
					n += size
				}
				b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "rows/s")
			})
		}
	}
}

func BenchmarkPlainInsert(b *testing.B) {
	for _, size := range []int{1, 100, 1000} {
		b.Run(fmt.Sprintf("rows=%d", size), func(b *testing.B) {
			db, err := sql.Open("sqlite", dsn(filepath.Join(b.TempDir(), "plain.db"), writerOptions))
			if err != nil {
				b.Fatal(err)
			}
			defer db.Close()
			db.SetMaxOpenConns(1)
			if _, err := db.Exec("CREATE TABLE x (series INTEGER, ms INTEGER, value, PRIMARY KEY (series, ms)) WITHOUT ROWID"); err != nil {
				b.Fatal(err)
			}
			ms, n := 0, 0
			for b.Loop() {
				ms++
				tx, err := db.Begin()
				if err != nil {
					b.Fatal(err)
				}
				st, err := tx.Prepare("INSERT OR IGNORE INTO x VALUES (?, ?, ?)")
				if err != nil {
					b.Fatal(err)
				}
				for i := range size {
					if _, err := st.Exec(i, ms, float64(ms)); err != nil {
						b.Fatal(err)
					}
				}
				if err := tx.Commit(); err != nil {
					b.Fatal(err)
				}
				n += size
			}
			b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "rows/s")
		})
	}
}
