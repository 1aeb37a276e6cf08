// A hostile plugin in Go: burn processor time on every core. Go's runtime takes SIGXCPU for itself
// and goes on, so the kernel's soft limit alone does not end it.
//
//	CGO_ENABLED=0 go build -o burn_cpu burn_cpu.go
package main

import (
	"fmt"
	"os/signal"
	"runtime"
)

func main() {
	signal.Ignore()
	fmt.Println("burning")
	for i := 0; i < runtime.NumCPU(); i++ {
		go func() {
			for {
			}
		}()
	}
	select {}
}
