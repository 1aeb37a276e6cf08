// A hostile plugin in Go: look for the accounts of the host, also through several goroutines.
//
// Build it without cgo, so that it is static:
//
//	CGO_ENABLED=0 go build -o read_passwd read_passwd.go
//
// It exits with 0 only if nothing could be read, with 66 if the jail is broken.
package main

import (
	"fmt"
	"os"
	"sync"
	"sync/atomic"
)

func main() {
	paths := []string{
		"/etc/passwd",
		"/etc/shadow",
		"../../../../../../etc/passwd",
		"/proc/1/root/etc/passwd",
		"/proc/self/cwd/../../../etc/passwd",
	}
	var found int32
	var group sync.WaitGroup
	lines := make([]string, len(paths))
	for i, path := range paths {
		group.Add(1)
		go func(i int, path string) {
			defer group.Done()
			content, err := os.ReadFile(path)
			if err != nil {
				lines[i] = fmt.Sprintf("refused %v", err)
				return
			}
			atomic.AddInt32(&found, 1)
			lines[i] = fmt.Sprintf("READ %s: %d bytes", path, len(content))
		}(i, path)
	}
	group.Wait()
	for _, line := range lines {
		fmt.Println(line)
	}
	if found != 0 {
		os.Exit(66)
	}
}
