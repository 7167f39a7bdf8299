// Command kstatus reads Kubernetes objects, one JSON per line, and answers each with a line of JSON: the verdict of the
// library by which Flux, Helm and kpt wait (InProgress, Current, Failed, Terminating) and its message.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/cli-utils/pkg/kstatus/status"
)

type verdict struct {
	Status  string `json:"status"`
	Message string `json:"message"`
}

func main() {
	if err := answer(os.Stdin, os.Stdout); err != nil {
		fmt.Fprintf(os.Stderr, "kstatus: %v\n", err)
		os.Exit(1)
	}
}

func answer(in io.Reader, out io.Writer) error {
	lines, told := bufio.NewReader(in), json.NewEncoder(out)
	for number := 1; ; number++ {
		line, err := lines.ReadBytes('\n')
		if err == io.EOF && len(line) == 0 {
			return nil
		}
		if err != nil && err != io.EOF {
			return err
		}
		found, err := compute(line)
		if err != nil {
			return fmt.Errorf("line %d: %w", number, err)
		}
		if err := told.Encode(found); err != nil {
			return err
		}
	}
}

func compute(line []byte) (verdict, error) {
	var object unstructured.Unstructured
	if err := object.UnmarshalJSON(line); err != nil {
		return verdict{}, err
	}
	found, err := status.Compute(&object)
	if err != nil {
		return verdict{}, err
	}
	return verdict{found.Status.String(), found.Message}, nil
}
