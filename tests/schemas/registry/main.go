// A registry in memory that speaks Confluent's REST API: franz-go's. Its address is the first line it prints; it ends
// with its standard input. It keeps schemas, and finds every change compatible.
package main

import (
	"fmt"
	"io"
	"os"

	"github.com/twmb/franz-go/pkg/sr/srfake"
)

func main() {
	registry := srfake.New()
	defer registry.Close()
	fmt.Println(registry.URL())
	io.Copy(io.Discard, os.Stdin)
}
