package main

import (
	"strings"
	"testing"
)

func TestReport(t *testing.T) {
	const in = `not an event
{"Action":"start","Package":"m/a"}
{"Action":"run","Package":"m/a","Test":"TestGood"}
{"Action":"output","Package":"m/a","Test":"TestGood","Output":"chatter\n"}
{"Action":"pass","Package":"m/a","Test":"TestGood"}
{"Action":"output","Package":"m/a","Test":"TestSkips","Output":"=== RUN   TestSkips\n"}
{"Action":"output","Package":"m/a","Test":"TestSkips","Output":"    a_test.go:9: needs gvisor: no namespaces\n"}
{"Action":"output","Package":"m/a","Test":"TestSkips","Output":"--- SKIP: TestSkips (0.00s)\n"}
{"Action":"skip","Package":"m/a","Test":"TestSkips"}
{"Action":"output","Package":"m/a","Output":"PASS\n"}
{"Action":"output","Package":"m/a","Output":"ok  \tm/a\t0.1s\n"}
{"Action":"pass","Package":"m/a"}
{"Action":"output","Package":"m/b","Test":"TestBad","Output":"    b_test.go:3: got 1, want 2\n"}
{"Action":"output","Package":"m/b","Test":"TestBad","Output":"--- FAIL: TestBad (0.00s)\n"}
{"Action":"fail","Package":"m/b","Test":"TestBad"}
{"Action":"output","Package":"m/b","Test":"TestHangs","Output":"last words\n"}
{"Action":"output","Package":"m/b","Output":"FAIL\tm/b\t0.1s\n"}
{"Action":"fail","Package":"m/b"}
{"Action":"build-output","ImportPath":"m/c","Output":"c.go:1: broken\n"}
{"Action":"fail","Package":"m/c","FailedBuild":"m/c"}
{"Action":"output","Package":"m/d","Output":"?   \tm/d\t[no test files]\n"}
{"Action":"skip","Package":"m/d"}
`
	const want = `not an event
ok  	m/a	0.1s
    b_test.go:3: got 1, want 2
--- FAIL: TestBad (0.00s)
last words
FAIL	m/b	0.1s
c.go:1: broken
FAIL	m/c [build failed]
skipped: m/a TestSkips: needs gvisor: no namespaces
1 passed, 1 failed, 1 skipped
`
	var got strings.Builder
	if err := report(strings.NewReader(in), &got); err != nil {
		t.Fatal(err)
	}
	if got.String() != want {
		t.Errorf("report: got\n%s\nwant\n%s", got.String(), want)
	}
}
