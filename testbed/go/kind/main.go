// Command config loads kind configuration files as `kind create cluster --config` does: a line for each, and exit code
// 1 when one is refused. Its module lies below kind's by name, for Go's rule on internal packages.
package main

import (
	"fmt"
	"os"

	"sigs.k8s.io/kind/pkg/internal/apis/config/encoding"
)

func main() {
	code := 0
	for _, file := range os.Args[1:] {
		nodes, err := load(file)
		if err != nil {
			fmt.Fprintf(os.Stderr, "%s: %v\n", file, err)
			code = 1
			continue
		}
		fmt.Printf("%s: %d nodes\n", file, nodes)
	}
	os.Exit(code)
}

func load(file string) (int, error) {
	cluster, err := encoding.Load(file)
	if err != nil {
		return 0, err
	}
	return len(cluster.Nodes), cluster.Validate()
}
